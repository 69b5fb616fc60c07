"""Measure a run on a cluster that Ray's autoscaler (v2) makes larger and smaller, by nodes over time.

    python jobs/bench.py autoscaling --json       one line of JSON; progress goes to the standard error output

Nodes are started and stopped on this machine.
The head has CPUs only. The run's driver, graph and ledger, Ray and its autoscaler are real; the nodes are processes of this
machine that claim to have GPUs, and engines and trainings are simulated. One node is killed in the middle of the run.

Ray's provider of such nodes is meant for tests and not part of its stable interface.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from jobs.benches.output import add_json_option, progress_beside_json
from jobs.benches.ray_environment import ray_environment
from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import node_watch
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.pipeline.cluster import START_ATTEMPTS
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.ledger import Ledger

LABEL = "vlrm-role"
HEAD, HEAD_ID = "ray.head.default", "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
NODE_TYPES = {"generate": 3, "judge": 2, "train": 1, "expert": 3}
"""Most nodes of each role, each with one GPU."""
HEAD_ROLE = "cpu"
IDLE_MINUTES = 0.2
DOWN_SECONDS, KILL_AFTER_PARTS = 180.0, 2
"""Time that the cluster gets to become small again, and committed parts after which a generator's node is killed."""
OVERRIDES = (
    "rounds=1", "prompts.per_round=160", "part_rows=8", "policy.samples=4", "policy.image_free=0", "policy.image_degraded=0",
    "policy.engine.actors=1", "policy.engine.max_actors=3", "policy.engine.gpus=1", "policy.engine.cpus=0.1",
    "policy.engine.max_num_seqs=16", "critic.engine.actors=1", "critic.engine.max_actors=2", "critic.engine.gpus=1",
    "critic.engine.cpus=0.1", "critic.engine.max_num_seqs=16", "critic.k=1", "train.workers=1", "train.gpus=1", "train.cpus=0.1",
    "train.epochs=3", "experts.reader.enabled=false", "experts.detector.pool={min: 1, max: 3, cpus: 0.1, gpus: 1}",
    "evaluation.pairs=0", "evaluation.holdout=0", f"cluster.labels={LABEL}",
)  # fmt: skip
SEQUENCE_SECONDS, STEP_SECONDS = (2.0, 1.0), 2.0
DETECTOR_PART_SECONDS = 10.0
"""Time that a detector takes for a part: more than three generators take, so that parts queue up before the detectors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the figures as one line of JSON."""
    print(json.dumps(measure_autoscaling(progress_beside_json(arguments))))


def measure_autoscaling(progress: Progress) -> dict[str, Any]:
    """Run once; returns how many nodes of each role there were at which second, and what the run committed."""
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp") as scratch, autoscaling_cluster(Path(scratch)):
        with watched() as history:
            figures = _run(Path(scratch), progress)
            figures["seconds"] = round(history.now(), 1)
            deadline = time.monotonic() + DOWN_SECONDS
            while history.latest != {HEAD_ROLE: 1} and time.monotonic() < deadline:
                time.sleep(1)
        return figures | {"nodes": history.changes, "small_again": history.latest == {HEAD_ROLE: 1}}


def _run(scratch: Path, progress: Progress) -> dict[str, Any]:
    from jobs import iterate
    from tests import simulated, simulated_run

    class Detector(simulated.SimulatedDetector):
        part_seconds = DETECTOR_PART_SECONDS

    class Fleet(simulated_run.SimulatedFleet):
        sequence_seconds, detector = SEQUENCE_SECONDS, Detector

    source = scratch / "prompts"
    source.mkdir()
    prompts = f"prompts.source={simulated_run.prompt_file(source, 8, 20)}"
    config = load(None, [*OVERRIDES, prompts, f"folder={scratch}", "name=run"])
    ledger = Ledger(str(scratch / "run"))
    fit = partial(simulated_run.fit, step_seconds=STEP_SECONDS)
    killer = threading.Thread(target=_kill_a_generator, args=(ledger, progress), daemon=True)
    killer.start()
    with (
        mock.patch("actors.fleet.Fleet", Fleet),
        mock.patch("vlrm_ray.reward.training.fit.fit", fit),
        mock.patch("vlrm_ray.pipeline.scaling.SHRINK_SECONDS", 20.0),
    ):
        iterate.run_rounds(config, ledger, progress, lambda: None)
    rows = {stage: (ledger.result(1, stage) or {})["rows"] for stage in ("generate", "pair", "select")}
    return {"rows": rows, "version": (ledger.result(1, "publish") or {})["version"]}


def _kill_a_generator(ledger: Ledger, progress: Progress) -> None:
    """Kill the processes of a node with a generator, once there are two such nodes and some parts are committed."""
    import ray

    nodes: list[dict[str, Any]] = []
    while len(nodes) < 2 or len(ledger.parts(1)) < KILL_AFTER_PARTS:
        time.sleep(0.5)
        if not ray.is_initialized() or ledger.result(1, "select"):
            return
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Labels"].get(LABEL) == "generate"]
    socket = nodes[0]["RayletSocketName"]
    for process in psutil.process_iter(["cmdline"]):
        if any(socket in argument for argument in process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    progress.log("killed a node with a generator")


class _History:
    """Nodes alive, by type.

    Attributes:
        changes: (seconds since the start, nodes by type) for each change.
    """

    def __init__(self) -> None:
        self.start, self.changes = time.monotonic(), list[tuple[float, dict[str, int]]]()

    @property
    def latest(self) -> dict[str, int]:
        return self.changes[-1][1] if self.changes else {}

    def now(self) -> float:
        return time.monotonic() - self.start

    def add(self, nodes: dict[str, int]) -> None:
        """Record the nodes, if they have changed."""
        if nodes != self.latest:
            self.changes.append((round(self.now(), 1), nodes))


@contextmanager
def watched() -> Iterator[_History]:
    """Context manager: the number of nodes is recorded while the block runs."""
    import ray

    history = _History()
    with repeated(lambda: history.add(node_watch.count(ray.nodes(), [LABEL])), 0.5, "counting the nodes"):
        yield history


@contextmanager
def autoscaling_cluster(scratch: Path) -> Iterator[None]:
    """Context manager: a head without GPUs, whose autoscaler starts nodes on this machine; this process is connected to it."""
    variables = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "disabled"}
    with ray_environment(**variables):
        import ray

        head = None
        try:
            for attempt in range(START_ATTEMPTS):  # Ray gives a node 30 s to start, which a busy machine exceeds
                port = _free_port()
                head = _started_head(scratch / str(attempt), port)
                if _connected(f"127.0.0.1:{port}", head):
                    break
                _end(head, str(scratch))
            else:
                raise UserError(
                    f"Ray's head did not start in {START_ATTEMPTS} attempts; see Ray's logs, or try on a less busy machine"
                )
            yield
        finally:
            ray.shutdown()
            if head is not None:
                _end(head, str(scratch))


def _started_head(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the head, whose files are in a folder."""
    folder.mkdir()
    (folder / "autoscaler.yaml").write_text(json.dumps(_autoscaler_config(port)))
    return subprocess.Popen(
        [
            str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}/ray",
            "--node-ip-address=127.0.0.1", "--num-cpus=4", "--num-gpus=0", "--object-store-memory=200000000",
            "--include-dashboard=false", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0",
            f"--labels={LABEL}={HEAD_ROLE}", f"--autoscaling-config={folder}/autoscaler.yaml",
        ],
        env=os.environ | {
            "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        },
        stdout=(folder / "head.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def _connected(address: str, head: subprocess.Popen[bytes]) -> bool:
    """Connect to the head; False if it has ended meanwhile."""
    import ray

    os.environ |= {"RAY_gcs_server_port_wait_time_s": "1"}
    while head.poll() is None:
        with suppress(Exception):  # Ray raises many types while the head starts
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="autoscaling")
            return True
        ray.shutdown()
        time.sleep(2)
    return False


def _end(head: subprocess.Popen[bytes], scratch: str) -> None:
    """End the head, and the nodes that its autoscaler has started."""
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        head.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    for process in psutil.process_iter(["cmdline"]):
        if any(scratch in argument for argument in process.info["cmdline"] or ()) and process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _autoscaler_config(port: int) -> dict[str, Any]:
    """Configuration of the autoscaler; it wants all of these keys."""
    nodes: dict[str, Any] = {
        role: {
            "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100_000_000},
            "labels": {LABEL: role},
            "node_config": {},
            "min_workers": 0,
            "max_workers": most,
        }
        for role, most in NODE_TYPES.items()
    }
    nodes[HEAD] = {"resources": {"CPU": 4}, "labels": {LABEL: HEAD_ROLE}, "node_config": {}, "max_workers": 0}
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    lists = (*(f"{name}_commands" for name in commands), "cluster_synced_files", "rsync_exclude", "rsync_filter")
    empty: dict[str, Any] = {name: [] for name in lists}
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": f"127.0.0.1:{port}",
        "head_node_id": HEAD_ID,
        "launch_multiple": True,
    }
    return empty | {
        "cluster_name": "simulated",
        "max_workers": sum(NODE_TYPES.values()),
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": provider,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "available_node_types": nodes,
        "head_node_type": HEAD,
    }
