"""Drivers that join a cluster: with and without a token, and two runs at the same time."""

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ray.programs import ENVIRONMENT, ROOT, TIMEOUT, kill, run_program, started_program

SMALL_ITERATE = str(Path(__file__).with_name("small_iterate.py"))
PORTS = ("port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
         "metrics-export-port", "ray-client-server-port")  # fmt: skip
RUN = ("rounds=1", "prompts.per_round=24", "part_rows=12", "evaluation.pairs=0", "policy.engine.kind=transformers",
       "critic.engine.kind=transformers", "critic.engine.actors=1", "train.epochs=1", "selection.margin=0",
       "cluster.dashboard=false")  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that no program uses, above those that Ray gives to its workers."""
    listeners = []
    for port in range(21_000 + secrets.randbelow(8_000), 60_000):
        with socket.socket() as listener:
            try:
                listener.bind(("0.0.0.0", port))
            except OSError:
                continue
        listeners.append(port)
        if len(listeners) == count:
            return listeners
    raise AssertionError("no free ports")


@contextmanager
def head_node(folder: Path, **environment: str) -> Iterator[str]:
    """A cluster of one node with four logical CPUs; yields its address."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = ["start", "--head", "--block", "--include-dashboard=false", "--num-cpus=4", f"--temp-dir={folder}",
               "--object-store-memory=200000000", "--min-worker-port=0", "--max-worker-port=0",
               *(f"--{name}={port}" for name, port in ports.items())]  # fmt: skip
    variables = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), **environment}
    ray = Path(sys.executable).with_name("ray")
    with open(folder / "start.log", "w") as log:
        process = subprocess.Popen(
            [str(ray), *command], env=variables, stdout=log, stderr=log, text=True, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in (text := (folder / "start.log").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield f"127.0.0.1:{ports['port']}"
    finally:
        kill(process)


@pytest.fixture
def short_folder(ray_folder: str) -> Iterator[Path]:
    """A folder whose path is short, for the sockets of a cluster."""
    folder = Path(ray_folder, secrets.token_hex(3))
    folder.mkdir()
    yield folder


def test_two_runs_on_one_cluster_finish_and_do_not_meet(short_folder: Path, tmp_path: Path) -> None:
    with head_node(short_folder, RAY_AUTH_MODE="disabled") as address:
        settings = [*RUN, f"folder={tmp_path}", f"cluster.address={address}"]
        environment = {"RAY_AUTH_MODE": "disabled"}
        with (
            started_program(SMALL_ITERATE, *settings, "name=first", "seed=1", **environment) as first,
            started_program(SMALL_ITERATE, *settings, "name=second", "seed=2", **environment) as second,
        ):
            outputs = [process.communicate(timeout=TIMEOUT) for process in (first, second)]
    for process, name, (output, errors) in zip((first, second), ("first", "second"), outputs, strict=True):
        assert process.returncode == 0, output[-2000:] + errors[-2000:]
        assert f"report: {tmp_path}/{name}/report.html" in output
        assert (tmp_path / name / "versions" / "0001.json").is_file()


def test_a_driver_uses_the_token_of_a_cluster_that_wants_one(short_folder: Path, tmp_path: Path) -> None:
    home, stranger = tmp_path / "home", tmp_path / "stranger"
    for folder in (home / ".ray", stranger):
        folder.mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from vlrm_ray.config import load\n"
        "from vlrm_ray.errors import run_as_program\n"
        "from vlrm_ray.pipeline.cluster import connected\n"
        "def main():\n"
        "    with connected(load(None, sys.argv[1:]), print):\n"
        "        import ray\n"
        "        print('joined with', ray.get(ray.remote(num_cpus=0)(lambda: 7).remote()))\n"
        "run_as_program(main)\n"
    )
    with head_node(short_folder, HOME=str(home), RAY_AUTH_MODE="token") as address:
        joined = run_program("-c", probe, f"cluster.address={address}", HOME=str(home))
        refused = run_program("-c", probe, f"cluster.address={address}", HOME=str(stranger))
    assert "joined with 7" in joined.stdout, joined.stdout + joined.stderr
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line]
    assert (
        f"the cluster at {address} (from cluster.address) wants an authentication token, and there is none here" in line
    )
