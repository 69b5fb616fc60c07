"""The wheel and the editable install hold the library with its data files, and no other top-level name."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "vlrm_ray", "actors", "jobs", "tests")
"""Parts of a checkout that are copied: setuptools builds beside the sources, and would find old builds there."""
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> frozenset[Path]:
    """Paths of the files in the wheel, which is built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=checkout, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return frozenset(Path(name) for name in archive.namelist())


def test_the_wheel_installs_only_the_library(wheel: frozenset[Path]) -> None:
    names = {path.parts[0] for path in wheel}
    assert {name for name in names if not name.endswith(".dist-info")} == {"vlrm_ray"}


def test_the_wheel_holds_every_file_of_the_library(checkout: Path, wheel: frozenset[Path]) -> None:
    files = {path.relative_to(checkout) for path in (checkout / "vlrm_ray").rglob("*") if path.is_file()}
    assert files == {path for path in wheel if path.parts[0] == "vlrm_ray"}
    data = {path.name for path in files if path.suffix != ".py"}
    assert data >= {"lexicon.yaml", "report.schema.json", "report.html.j2", "detector.pt", "MODEL_CARD.md"}


@pytest.mark.parametrize(("package", "importable"), [("vlrm_ray", True), ("actors", False), ("jobs", False)])
def test_the_editable_install_makes_only_the_library_importable(
    package: str, importable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`actors` and `jobs` would get in the way of packages of the same name; they are imported from the checkout."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60)
    assert (done.returncode == 0) is importable
