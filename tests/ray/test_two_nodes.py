"""Two nodes that share nothing: no folder, no copy of the code. Runs, images and prompts are on an object store."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ray.clusters import PORTS, SMALL, SideBySide, free_ports
from tests.ray.programs import ENVIRONMENT, ROOT, TIMEOUT, kill
from tests.s3_server import S3Server
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger

CODE = ("vlrm_ray", "actors", "jobs", "tests")
ROLES = ("PolicyGenerator", "CritiqueWriter", "DetectorExpert", "TextExpert", "RayTrainWorker")


def can_isolate() -> bool:
    """Whether this process may give others a mount namespace of their own."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "--mount", "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_isolate(), reason="only root can give a process a mount namespace of its own")


@dataclass
class Node:
    """A node of the cluster.

    Attributes:
        process: `ray start --block` in the node's namespace.
        seen: names of the processes that were seen on it.
    """

    process: subprocess.Popen[str]
    seen: set[str] = field(default_factory=set)

    def watch(self, stop: threading.Event) -> None:
        """Record the names of the node's processes until `stop` is set."""
        while not stop.wait(0.3):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                try:
                    self.seen.add(" ".join(child.cmdline()))
                except psutil.Error:
                    continue

    def roles(self) -> set[str]:
        """Those of `ROLES` that have run on the node."""
        return {role for role in ROLES if any(name.startswith("ray::") and role in name for name in self.seen)}


@contextmanager
def isolated_node(copy: Path, *arguments: str) -> Iterator[Node]:
    """A node with its own /tmp and its own copy of the code; ended when the block ends."""
    script, venv = str(Path(__file__).with_name("isolated_node.sh")), sys.prefix
    command = [
        "unshare",
        "--mount",
        script,
        str(ROOT),
        str(copy),
        venv,
        f"{venv}/bin/ray",
        "start",
        "--block",
        *arguments,
    ]
    environment = {
        **ENVIRONMENT, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT),
        "PATH": f"{venv}/bin:{ENVIRONMENT['PATH']}", "HOME": "/tmp", "VLRM_CACHE": "/tmp/cache",
    }  # fmt: skip
    with open(copy.parent / f"{copy.name}.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True, start_new_session=True)
    try:
        yield Node(process)
    finally:
        kill(process)


def copy_of_the_code(folder: Path) -> Path:
    """A copy of the project without its environment."""
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def wait_for(log: Path, text: str, node: Node) -> None:
    deadline = time.monotonic() + 120
    while text not in log.read_text():
        assert node.process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def hashes(ledger: Ledger) -> dict[str, Any]:
    """Content hashes of everything that a run committed."""
    found: dict[str, Any] = {stage: (ledger.result(1, stage) or {})["sha256"] for stage in ROLLOUT_STAGES}
    return found | {"version": (ledger.result(1, "publish") or {})["files"]}


def test_a_run_on_two_nodes_equals_one_on_a_single_node(bucket: S3Server, two_runs: SideBySide, tmp_path: Path) -> None:
    settings = [*SMALL, f"prompts.source={bucket.uri('data/prompts.jsonl')}", f"folder={bucket.uri('runs')}"]
    ports = dict(zip((*PORTS, "dashboard-port"), free_ports(len(PORTS) + 1), strict=True))
    more = dict(zip(PORTS[1:5], free_ports(4), strict=True))
    copies = [copy_of_the_code(tmp_path / name) for name in ("head", "worker")]
    common = ("--object-store-memory=200000000", "--min-worker-port=0", "--max-worker-port=0")
    head_arguments = (
        "--head",
        "--num-cpus=1",
        "--dashboard-host=127.0.0.1",
        *common,
        *(f"--{n}={p}" for n, p in ports.items()),
    )
    with isolated_node(copies[0], *head_arguments) as head:
        wait_for(tmp_path / "head.log", "Ray runtime started", head)
        address = f"127.0.0.1:{ports['port']}"
        worker_arguments = (f"--address={address}", "--num-cpus=2", *common, *(f"--{n}={p}" for n, p in more.items()))
        with isolated_node(copies[1], *worker_arguments) as worker:
            wait_for(tmp_path / "worker.log", "Ray runtime started", worker)
            stop = threading.Event()
            watcher = threading.Thread(target=worker.watch, args=(stop,), daemon=True)
            watcher.start()
            submit = [
                f"{sys.prefix}/bin/ray", "job", "submit", f"--address=http://127.0.0.1:{ports['dashboard-port']}",
                f"--working-dir={copies[0]}", "--", "python", "tests/ray/small_iterate.py", *settings, "name=two",
            ]  # fmt: skip
            job = subprocess.run(
                submit,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                env={**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"},
            )
            stop.set()
            watcher.join()
    assert job.returncode == 0, job.stdout[-4000:] + job.stderr[-2000:]
    roles = worker.roles()
    assert "RayTrainWorker" in roles, roles
    assert roles & {"PolicyGenerator", "CritiqueWriter"}, roles
    assert roles & {"DetectorExpert", "TextExpert"}, roles
    one = two_runs.done["first"]
    assert one.returncode == 0, one.stdout[-2000:] + one.stderr[-2000:]
    assert hashes(Ledger(bucket.uri("runs/two"))) == hashes(Ledger(str(two_runs.folder / "first")))
    own_lines = job.stdout.partition("vlrm-ray: run")[2]  # before them, Ray repeats the command
    assert "report: " in own_lines
    assert "key:secret" not in own_lines + one.stdout
