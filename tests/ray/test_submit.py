"""A run is submitted to a head node as a user does it: with a token, to a node for CPU work, stopped, and resumed."""

import json
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ray.clusters import PORTS, RUN, free_ports
from tests.ray.programs import ENVIRONMENT, ROOT, TIMEOUT, kill
from vlrm_ray.store.ledger import Ledger

RAY = str(Path(sys.executable).with_name("ray"))
WAIT = 400
"""Seconds to wait for a state: several times what it takes on a machine with other work."""
ATTEMPTS = 12
"""Ray allows a node 30 s to start, which a busy machine exceeds."""
OF_A_NODE = PORTS[1:5]
"""Ports that each node of a machine needs for itself."""


@dataclass
class Cluster:
    """A head without CPUs and a node for CPU work, both on this machine.

    Attributes:
        dashboard: address of the job interface.
        token: the cluster's token.
    """

    dashboard: str
    token: str

    def ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Ray's command line as a user with the token."""
        environment = ENVIRONMENT | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_API_SERVER_ADDRESS": self.dashboard,
        }  # fmt: skip
        return subprocess.run([RAY, *arguments], capture_output=True, text=True, timeout=TIMEOUT, env=environment)

    def submit(self, name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Submit the run from the checkout, for a node with the label of CPU work."""
        where = ("--entrypoint-num-cpus=0.5", "--entrypoint-label-selector", '{"vlrm-role": "cpu"}')
        # the training lasts longer than the command that stops the job takes to start
        settings = (*RUN, "train.epochs=12", f"folder={folder}", "cluster.labels={cpu: {vlrm-role: cpu}}")
        run = ("python", "jobs/iterate.py", *settings)
        return self.ray(
            "job", "submit", f"--submission-id={name}", f"--working-dir={ROOT}", *where, *options, "--", *run
        )

    def get(self, path: str, *, token: bool = True) -> Any:
        """An answer of the dashboard's interface."""
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.dashboard}{path}", headers=headers), timeout=60
        ) as answer:
            return json.load(answer)


@contextmanager
def node(folder: Path, name: str, *arguments: str, **environment: str) -> Iterator[None]:
    """A node of the cluster; ended when the block ends."""
    command = [RAY, "start", "--block", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"]
    variables = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", **environment}
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"  # where the job's `python` is looked up
    log = folder / f"{name}.log"
    for attempt in range(ATTEMPTS):
        with open(log, "w") as output:
            process = subprocess.Popen(
                [*command, *arguments], env=variables, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(lambda p=process: "Ray runtime started" in log.read_text() or p.poll() is not None, log.read_text)
        if process.poll() is None:
            break
        kill(process)
        assert attempt + 1 < ATTEMPTS and "timed out during startup" in log.read_text(), log.read_text()
    try:
        yield
    finally:
        kill(process)


def own_folder(folder: Path) -> Path:
    """A folder for a second node of this machine, because two nodes in one folder overwrite each other's copy of a job's code.

    They still share the logs: the nodes have one address, and Ray looks for a driver's log at the first node that has it.
    """
    session = (folder / "session_latest").resolve()
    own = folder / "w"
    (own / session.name).mkdir(parents=True)
    (own / session.name / "logs").symlink_to(session / "logs")
    return own


@pytest.fixture
def cluster(ray_folder: str) -> Iterator[Cluster]:
    folder, token = Path(ray_folder, secrets.token_hex(3)), secrets.token_hex(32)
    folder.mkdir()
    numbers = free_ports(len(PORTS) + 1 + len(OF_A_NODE))
    head = dict(zip((*PORTS, "dashboard-port"), numbers, strict=False))
    worker = dict(zip(OF_A_NODE, numbers[len(PORTS) + 1 :], strict=True))
    environment = {
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "VLRM_ASSETS": str(ROOT / "vlrm_ray/scenes/assets"),
    }
    ports = [f"--{name}={port}" for name, port in head.items()]
    start = ("--head", "--num-cpus=0", "--labels=vlrm-role=head", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}")
    with node(folder, "head", *start, *ports, **environment):
        own = own_folder(folder)
        join = (f"--temp-dir={own}", f"--address=127.0.0.1:{head['port']}", "--num-cpus=4", "--labels=vlrm-role=cpu")
        with node(folder, "worker", *join, *(f"--{name}={port}" for name, port in worker.items()), **environment):
            yield Cluster(f"http://127.0.0.1:{head['dashboard-port']}", token)


def wait_until(condition: Any, report: Any) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, report()
        time.sleep(0.5)


def test_a_submitted_run_is_on_a_node_for_cpu_work_is_stopped_and_resumes(cluster: Cluster, tmp_path: Path) -> None:
    submitted = cluster.submit("first", tmp_path, "--no-wait")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    parts = tmp_path / "scenes" / "round-0001" / "parts"

    def logs() -> str:
        return cluster.ray("job", "logs", "first").stdout

    wait_until(lambda: list(parts.glob("part-*.json")) or cluster.get("/api/jobs/first")["status"] == "FAILED", logs)
    assert list(parts.glob("part-*.json")), logs()
    stopped = cluster.ray("job", "stop", "first")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    info = cluster.get("/api/jobs/first")
    assert info["status"] == "STOPPED"
    nodes = cluster.get("/nodes?view=summary")["data"]["summary"]
    labels = {entry["raylet"]["nodeId"]: entry["raylet"].get("labels", {}) for entry in nodes}
    assert labels[info["driver_node_id"]]["vlrm-role"] == "cpu", (info, labels)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        cluster.get("/api/jobs/first", token=False)

    assert "vlrm-ray: run scenes, 1 round of 24 prompts" in logs()
    committed = {file: file.stat().st_mtime_ns for file in parts.glob("part-*.json")}
    assert committed

    again = cluster.submit("second", tmp_path)
    assert again.returncode == 0, again.stdout[-4000:]
    assert f"report: {tmp_path}/scenes/report.html" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in committed} == committed  # not made again
    assert Ledger(str(tmp_path / "scenes")).newest_version() == 1
