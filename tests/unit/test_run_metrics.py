"""`metrics/` of a run: its engines, training steps and nodes over time, in files that sessions continue."""

import json
import time
from pathlib import Path

import pytest

from tests.s3_server import S3Server
from vlrm_ray.errors import StorageError
from vlrm_ray.pipeline import run_metrics
from vlrm_ray.pipeline.run_metrics import ENGINES, NODES, OLD_FILE, STEPS, RunMetrics
from vlrm_ray.store.ledger import Ledger

OLD_LINES = """{"time": 1.0, "round": 1, "rows": {"generate": 7}, "rates": {}, "engines": {}}
not json
{"time": 2.0, "nodes": {"cpu": 1}}
{"time": 3.0, "round": 1, "train": {"step": 1, "text": "\\"rows\\""}}
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path))


def lines(ledger: Ledger, kind: str = ENGINES) -> list[dict[str, object]]:
    """The lines of a kind as a program reads them that knows nothing of this project."""
    files = sorted(Path(ledger.path("metrics")).glob(f"{kind}-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is due as soon as it is added."""
    monkeypatch.setattr(run_metrics, "WRITE_SECONDS", 0.0)


def test_counters_are_sampled_with_rates_and_continued(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_metrics, "SAMPLE_SECONDS", 0.05)
    rows = {"generate": 0}
    for round_ in (1, 2):
        with RunMetrics(ledger).sampled(round_, lambda: rows, lambda: {"policy-0": {"running": 3, "waiting": 4}}):
            rows["generate"] += 100
            time.sleep(0.2)
    found = lines(ledger)
    assert [line["round"] for line in found] == sorted(int(str(line["round"])) for line in found)
    assert {line["round"] for line in found} == {1, 2}
    assert found[-1]["rows"] == {"generate": 200}
    assert found[0]["engines"] == {"policy-0": {"running": 3, "waiting": 4}}
    assert max(line["rates"]["generate"] for line in found) > 0  # type: ignore[index]


def test_rates_stay_right_while_the_counts_are_unknown_and_after_they_begin_anew(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[dict[str, int]] = [{"generate": 100}, {}, {"generate": 140}, {"generate": 10}]
    sampler, now = run_metrics._Sampler(1, lambda: counts.pop(0), dict), time.time()
    rates = []
    for seconds in (10, 20, 30, 40):
        monkeypatch.setattr(time, "time", lambda: now + seconds)  # noqa: B023
        rates.append(sampler.sample()["rates"])
    assert rates == [{"generate": pytest.approx(10, abs=0.1)}, {}, {"generate": 2.0}, {"generate": 1.0}]


def test_the_last_state_is_written_when_a_round_fails(ledger: Ledger) -> None:
    with pytest.raises(KeyError), RunMetrics(ledger).sampled(1, lambda: {"generate": 7}, dict):
        raise KeyError
    assert lines(ledger)[-1]["rows"] == {"generate": 7}


def test_a_write_costs_what_is_new(s3: S3Server, monkeypatch: pytest.MonkeyPatch, at_once: None) -> None:
    """Of 100 lines no file is written again with more than `FILE_BYTES` of earlier ones."""
    monkeypatch.setattr(run_metrics, "FILE_BYTES", 500)
    sizes, put = list[int](), Ledger.put
    monkeypatch.setattr(Ledger, "put", lambda *asked: (sizes.append(len(asked[2])), put(*asked))[1])
    ledger = Ledger(s3.uri("runs/mine"))
    metrics = RunMetrics(ledger)
    for step in range(100):
        metrics.add(STEPS, {"round": 1, "train": {"step": step, "text": "x" * 50}})
    assert len(sizes) == 100
    assert max(sizes) < 700
    assert [line["train"]["step"] for line in RunMetrics(ledger).read(STEPS)] == list(range(100))
    metrics.write()  # nothing is new
    assert len(sizes) == 100


def test_reading_one_kind_reads_no_file_of_the_others(s3: S3Server, at_once: None) -> None:
    metrics = RunMetrics(Ledger(s3.uri("runs/mine")))
    for kind, field in run_metrics.FIELDS.items():
        metrics.add(kind, {"round": 1, field: {"x": 1}})
    s3.requests.clear()
    assert len(metrics.read(NODES)) == 1
    assert {request.rpartition("/")[2] for request in s3.requests if request.startswith("GET")} == {
        "nodes-00000.jsonl",
        s3.bucket,  # the list of files
    }


def test_lines_that_are_due_are_written_though_no_others_follow(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    metrics = RunMetrics(ledger)
    metrics.add(STEPS, {"round": 1, "train": {"step": 1}})
    metrics.write_due()
    assert lines(ledger, STEPS) == []
    clock[0] += run_metrics.WRITE_SECONDS
    metrics.write_due()
    assert len(lines(ledger, STEPS)) == 1
    assert run_metrics.WRITE_SECONDS < 60


def test_all_lines_of_a_run_of_an_older_version_are_read(ledger: Ledger, at_once: None) -> None:
    ledger.put(OLD_FILE, OLD_LINES.encode())
    metrics = RunMetrics(ledger)
    metrics.add(STEPS, {"round": 1, "train": {"step": 2}})
    assert [line["time"] for line in metrics.read(ENGINES)] == [1.0]
    assert [line["nodes"] for line in metrics.read(NODES)] == [{"cpu": 1}]
    assert [line["train"]["step"] for line in metrics.read(STEPS)] == [1, 2]


def test_new_lines_are_read_before_they_are_written(ledger: Ledger) -> None:
    metrics = RunMetrics(ledger)
    metrics.add(STEPS, {"round": 1, "train": {"step": 1}})
    assert lines(ledger, STEPS) == []
    assert len(metrics.read(STEPS)) == 1


def test_lines_wait_for_a_storage_that_is_away(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, at_once: None) -> None:
    def away(*_: object) -> None:
        raise StorageError("away")

    metrics = RunMetrics(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "put", away)
        metrics.add(STEPS, {"round": 1, "train": {}})
    metrics.add(STEPS, {"round": 2, "train": {}})
    assert [line["round"] for line in lines(ledger, STEPS)] == [1, 2]


def test_files_of_other_names_in_the_folder_do_no_harm(ledger: Ledger) -> None:
    ledger.put("metrics/steps-copy.jsonl", b"")
    metrics = RunMetrics(ledger)
    metrics.add(STEPS, {"round": 1, "train": {"step": 1}})
    metrics.write()
    assert len(lines(ledger, STEPS)) == 1
