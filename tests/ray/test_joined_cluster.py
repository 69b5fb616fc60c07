"""Drivers that join a cluster: with and without a token, and two runs at the same time."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.clusters import SideBySide, head_node
from tests.ray.programs import ROOT, run_program


@pytest.fixture
def short_folder(ray_folder: str) -> Iterator[Path]:
    """A folder whose path is short, for the sockets of a cluster."""
    folder = Path(ray_folder, secrets.token_hex(3))
    folder.mkdir()
    yield folder


def test_two_runs_on_one_cluster_finish_and_do_not_meet(two_runs: SideBySide) -> None:
    assert two_runs.done.keys() == {"first", "second"}
    for name, done in two_runs.done.items():
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert f"report: {two_runs.folder}/{name}/report.html" in done.stdout
        assert (two_runs.folder / name / "versions" / "0001.json").is_file()


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
