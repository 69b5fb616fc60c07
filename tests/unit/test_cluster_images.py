"""The images and the Slurm script of `cluster/`, as far as a machine without containers and without Slurm can tell."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
PINS = ROOT / ".ci" / "constraints-cpu.txt"
INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "CMD"}
STUB = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
  "scontrol show hostnames"*) printf '%s\\n' $NODES ;;
  "srun "*get_node_ip_address*) echo 10.0.0.1 ;;
  "srun "*"ray start"*) exec sleep 60 ;;
  "python -c"*) echo secret ;;
  "python - "*) cat > /dev/null; until [ "$(grep -c 'ray start' "$CALLS")" -ge "$2" ]; do sleep 0.1; done; exit "${JOINED:-0}" ;;
  "python jobs/iterate.py"*) printf '%s\\n' "token $RAY_AUTH_TOKEN mode $RAY_AUTH_MODE at $RAY_ADDRESS" >> "$CALLS"; exit "${DRIVER:-0}" ;;
esac
"""
"""Stands for the commands that the Slurm script calls: writes down how it was called, and answers."""


def instructions(kind: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (CLUSTER / f"Dockerfile.{kind}").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_dockerfile_starts_from_a_fixed_python_and_copies_what_is_there(kind: str) -> None:
    parsed = instructions(kind)
    assert {name for name, _ in parsed} == INSTRUCTIONS
    assert parsed[0] == ("FROM", "python:3.11-slim-bookworm")
    sources = [source for name, value in parsed if name == "COPY" for source in value.split()[:-1]]
    assert {"pyproject.toml", ".ci", "vlrm_ray", "actors", "jobs"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_its_commands_are_valid_shell_and_install_the_pinned_set_of_their_kind(kind: str) -> None:
    commands = [value for name, value in instructions(kind) if name == "RUN"]
    for command in commands:
        assert subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0, command
    assert any(f".ci/install /opt/env {kind},experts" in command for command in commands)
    assert "constraints-$kind.txt" in (ROOT / ".ci" / "install").read_text()
    installs = [command for command in commands if "pip install" in command]
    for command in installs:  # besides .ci/install: pinned, and held to the same constraints
        assert re.search(r"\w==\d", command)
        (constraints,) = re.findall(r"--constraints (\S+)", command)
        assert (ROOT / constraints).is_file()


def test_the_clients_of_the_clouds_are_on_the_head_and_on_the_machine_that_starts_the_cluster() -> None:
    """`ray up` looks for a machine of the cloud, and the autoscaler in the head's container starts the other nodes."""
    assert any("/opt/env cpu,experts,cloud" in value for name, value in instructions("cpu") if name == "RUN")
    assert "EXTRAS=cpu,experts,cloud make install" in (ROOT / "docs" / "cluster.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    clients = {Requirement(text).name for text in project["optional-dependencies"]["cloud"]}
    assert clients == {"boto3", "google-api-python-client", "google-auth", "google-auth-httplib2"}
    pins = dict(line.split("==") for line in PINS.read_text().splitlines() if "==" in line)
    for text in project["optional-dependencies"]["cloud"]:
        assert Requirement(text).specifier.contains(pins[Requirement(text).name]), text


def test_ray_in_the_images_is_that_of_the_cluster_files() -> None:
    for kind in ("cpu", "gpu"):
        pins = (ROOT / ".ci" / f"constraints-{kind}.txt").read_text().splitlines()
        assert "ray==2.60.0" in pins
        assert any(re.fullmatch(r"torch==2\.13\.\d.*", pin) for pin in pins)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_login_shell_finds_ray_too(kind: str) -> None:
    """Ray and KubeRay start nodes from login shells, which set PATH themselves."""
    parsed = instructions(kind)
    (path,) = (value for name, value in parsed if name == "ENV" and "PATH=" in value)
    assert path.startswith("PATH=/opt/env/bin:$PATH RAY_AUTH_MODE=token")
    assert any("/etc/profile.d/" in value for name, value in parsed if name == "RUN")


def slurm(tmp_path: Path, nodes: str, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
    """Run the Slurm script with stubs; its exit status, the calls, and what it printed."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("scontrol", "srun", "python", "ray"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
    calls = tmp_path / "calls"
    variables = {
        "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "n[0-9]",
        "SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_ON_NODE": "64", "NODES": nodes, "CALLS": str(calls), **environment,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sbatch"), *arguments], env=variables, capture_output=True, text=True, timeout=60
    )
    return done.returncode, calls.read_text().splitlines() if calls.exists() else [], done.stderr


def test_slurm_starts_a_labelled_node_on_each_machine_and_runs_the_job(tmp_path: Path) -> None:
    status, calls, errors = slurm(tmp_path, "n0 n1 n2", "--config", "mine.yaml", "rounds=2")
    assert status == 0, errors
    starts = sorted(call for call in calls if "ray start" in call)
    assert [re.findall(r"--nodelist=(\S+)", call)[0] for call in starts] == ["n0", "n1", "n2"]
    assert [re.findall(r"vlrm-role=(\w+)", call)[0] for call in starts] == ["train", "serve", "serve"]
    assert "--head --node-ip-address=10.0.0.1 --port=6379 --dashboard-host=127.0.0.1" in starts[0]
    assert all("--num-cpus=64 --num-gpus=8" in call for call in starts)
    assert all("--address=10.0.0.1:6379" in call for call in starts[1:])
    assert all("--cpus-per-task=64 " in call for call in calls if call.startswith("srun "))
    (job,) = (call for call in calls if call.startswith("python jobs/iterate.py"))
    assert job.startswith(
        "python jobs/iterate.py --config mine.yaml rounds=2 cluster.labels={train: {vlrm-role: train}"
    )
    assert "token secret mode token at 10.0.0.1:6379" in calls


def test_the_labels_that_slurm_passes_are_ones_that_the_configuration_takes(tmp_path: Path) -> None:
    from vlrm_ray.config import load

    _, calls, _ = slurm(tmp_path, "n0 n1")
    (job,) = (call for call in calls if call.startswith("python jobs/iterate.py"))
    labels = load(None, [job.partition("iterate.py ")[2]]).cluster.labels
    assert labels["train"] == {"vlrm-role": "train"}
    assert {labels[role]["vlrm-role"] for role in ("generate", "judge", "expert")} == {"serve"}  # type: ignore[index]


def test_a_single_machine_needs_no_labels(tmp_path: Path) -> None:
    status, calls, _ = slurm(tmp_path, "n0")
    assert status == 0
    assert not any("vlrm-role" in call for call in calls)


@pytest.mark.parametrize(("variable", "status"), [("DRIVER", 3), ("JOINED", 1)])
def test_slurm_learns_that_the_run_or_the_start_failed(variable: str, status: int, tmp_path: Path) -> None:
    assert slurm(tmp_path, "n0 n1", **{variable: str(status)})[0] == status


RAY_THAT_STARTS_SLOWLY = """
import time
calls, clock = [], [0.0]
time.sleep = lambda seconds: clock.__setitem__(0, clock[0] + seconds)
time.monotonic = lambda: clock[0]
def init(**_):
    calls.append(1)
    clock[0] += 30
    if len(calls) < {attempts}:
        raise SystemExit(15)
def nodes():
    return [{{"Alive": True}}, {{"Alive": len(calls) > {attempts}}}]
def shutdown():
    pass
"""
"""Stands for Ray: a head that refuses, by ending the program, and a second node that joins an attempt later."""


@pytest.mark.parametrize(("attempts", "status"), [(10, 0), (20, 1)])
def test_the_script_waits_ten_minutes_for_all_nodes_also_when_ray_ends_the_program(
    attempts: int, status: int, tmp_path: Path
) -> None:
    (tmp_path / "ray.py").write_text(RAY_THAT_STARTS_SLOWLY.format(attempts=attempts))
    script = (CLUSTER / "slurm.sbatch").read_text()
    program = script.partition("<<'P'\n")[2].partition("\nP\n")[0]
    done = subprocess.run(
        [sys.executable, "-", "2"], input=program, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert ("not all nodes have joined" in done.stderr) is bool(status)


def test_a_job_has_all_memory_of_its_nodes() -> None:
    assert "#SBATCH --mem=0\n" in (CLUSTER / "slurm.sbatch").read_text()


def test_too_few_nodes_for_engines_are_refused(tmp_path: Path) -> None:
    status, calls, errors = slurm(tmp_path, "n0 n1", TRAIN_NODES="2")
    assert status == 2
    assert "leaves none of 2 nodes for engines" in errors
    assert not any("ray start" in call for call in calls)
