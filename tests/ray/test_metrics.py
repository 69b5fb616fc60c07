"""A run's metrics as Prometheus gets them: the catalogue is found at the node's endpoint, and every panel has an answer."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.progress_board import ProgressBoard
from jobs import watching
from tests.simulated import SimulatedEngine
from tests.unit import made_up
from vlrm_ray import config as configuration
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.monitoring import CATALOGUE
from vlrm_ray.pipeline import training_steps
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.monitor import RunMonitor
from vlrm_ray.pipeline.recorder import Recorder
from vlrm_ray.pipeline.run_metrics import RunMetrics
from vlrm_ray.pipeline.stage_actors import ProgressReporter
from vlrm_ray.pipeline.stages import Commit, Tally
from vlrm_ray.reward.training.step_records import StepRecord
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import to_table

pytestmark = pytest.mark.usefixtures("ray_cluster")
DEADLINE = 120.0
"""Seconds after which something should have been exported and scraped: many times what it takes."""
NAME = "run"
STEPS = [
    StepRecord(1, 1, step, 3, 1 / step, 1.0, 1.0, 1.0, 0.5, 1.0, 1e-4, 10, 1.0, 0.1, 10.0, 0.4, 1.0, int(step == 2))
    for step in (1, 2, 3)
]
"""Training steps, of which the second is skipped."""


class Watched:
    """The actors of a run, as its driver watches them: two simulated engines and the progress board."""

    def __init__(self) -> None:
        engine = ray.remote(SimulatedEngine).options(num_cpus=0, max_concurrency=100)
        self.engines = {"policy-0": engine.remote(4, 0.1), "critic-0": engine.remote(4, 0.1, critic=True)}
        self.board = BoardClient(ray.remote(ProgressBoard).options(num_cpus=0).remote())

    def loads(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: vars(ray.get(engine.load_report.remote())) for name, engine in self.engines.items()}

    def generate(self) -> None:
        """Let both engines answer a request."""
        calls = [e.generate.remote([Request("a", None)] * 6, Sampling(8)) for e in self.engines.values()]
        ray.get(calls)


@pytest.fixture(scope="module")
def exported(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunMonitor]:
    """A run that has done something of everything: its stages, engines, a training and an evaluation."""
    ledger, watched, log = Ledger(str(tmp_path_factory.mktemp("run"))), Watched(), list[str]()
    config = configuration.load(None, [f"name={NAME}", "train.workers=1"])
    monitor = RunMonitor(config, ledger, Recorder(config.name, log.append))
    monitor.start(watched)
    reporter = ProgressReporter(watched.board.handle)
    try:
        monitor.began(1)
        reporter.add("prompts", 2)
        reporter.add("detect", 2, 0.5)
        reporter.add("detect cache hits", 1)
        watched.generate()
        pairs = made_up.pair("kept"), made_up.pair("dropped", (0.6,), (0.5,))
        good = replace(made_up.row(pairs, ["kept"]), part_rows=2)
        broken = replace(made_up.row((), [], image="b.png"), quarantined="image_missing", part_rows=2)
        for tally in Tally.of_table(Commit(config, ledger)(to_table([good, broken]))):
            monitor.committed(tally)
        monitor.published(1, 1)
        with training_steps.followed(1, watched.board.steps, RunMetrics(ledger, monitor.trained_step), print):
            ray.get([watched.board.handle.add_step.remote(step.as_json()) for step in STEPS])
        monitor.evaluated(1, {"hallucination.accuracy": {"value": 0.75}})
        yield monitor
        assert log == []
    finally:
        monitor.close()


def endpoint() -> str:
    """Host and port where the node exports metrics, on the loopback interface."""
    return f"127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}"


def series() -> dict[str, list[tuple[dict[str, str], float]]]:
    """The run's series by exported name: labels and value."""
    with urllib.request.urlopen(f"http://{endpoint()}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in re.findall(r"^(ray_vlrm_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if tags["run"] == NAME:
            found.setdefault(name, []).append((tags, float(value)))
    return found


def wait_for(missing: Callable[[], Any]) -> None:
    """Wait until nothing is missing any more."""
    deadline = time.monotonic() + DEADLINE
    while (left := missing()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left


EXPECTED = {name: {"run", *metric.tags} for metric in CATALOGUE.values() for name in metric.exported()}
"""Exported names with the tags of their series."""


def test_every_metric_of_the_catalogue_is_exported_with_its_tags(exported: RunMonitor) -> None:
    wait_for(lambda: EXPECTED.keys() - series().keys())
    for name, tags in EXPECTED.items():
        assert all(labels.keys() >= tags for labels, _ in series()[name]), name


def test_nothing_is_counted_twice(exported: RunMonitor) -> None:
    wait_for(lambda: EXPECTED.keys() - series().keys())
    found = series()

    def total(name: str, **tags: str) -> float:
        return sum(value for labels, value in found[name] if labels.items() >= tags.items())

    assert total("ray_vlrm_pairs_total", outcome="kept") == 1
    assert total("ray_vlrm_pairs_total", outcome="dropped") == 1
    assert total("ray_vlrm_quarantined_total", stage="generate", reason="image_missing") == 1
    assert total("ray_vlrm_verdicts_total", verdict="contradicted") == 2
    assert total("ray_vlrm_margin_count") == 2
    assert total("ray_vlrm_margin_bucket", outcome="kept", le="0.75") == 0  # the margin is 0.8
    assert total("ray_vlrm_margin_bucket", outcome="kept", le="0.8") == 1
    assert total("ray_vlrm_cache_hits_total", stage="detect") == 1
    assert total("ray_vlrm_rows_total", stage="detect") == 2
    assert total("ray_vlrm_train_tokens_total") == 30
    assert total("ray_vlrm_engine_tokens_total", actor="policy-0", role="generate") == 48


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus server that scrapes the node every second; yields the address of its interface."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("there is no prometheus on PATH; on Debian: apt-get install prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scrape = {"job_name": "ray", "scrape_interval": "1s", "static_configs": [{"targets": [endpoint()]}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))  # JSON is YAML
    with subprocess.Popen(
        [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield address
        finally:
            process.terminate()


def answer(address: str, expression: str) -> list[Any]:
    """What Prometheus answers now to a query of the dashboard; [] while it starts."""
    query = expression.replace("$__rate_interval", "1m").replace("$run", NAME)
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return list(json.loads(reply.read())["data"]["result"])
    except ConnectionError:
        return []
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError:
        return []


def test_every_query_of_the_dashboard_has_an_answer(exported: RunMonitor, tmp_path: Path) -> None:
    panels = json.loads(watching.DASHBOARD.read_text())["panels"]
    queries = {target["expr"]: panel["title"] for panel in panels for target in panel.get("targets", ())}
    with prometheus(tmp_path) as address:
        wait_for(lambda: [title for expression, title in queries.items() if not answer(address, expression)])
