"""What `ray job submit --working-dir .` uploads, measured by Ray's own packaging, and where its job finds the rest."""

import os
import shutil
import zipfile
from pathlib import Path
from unittest import mock

import pytest

from vlrm_ray import config, config_loading

ROOT = Path(__file__).parents[2]
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ray._private.runtime_env.packaging import create_package

    target = tmp_path_factory.mktemp("package") / "package.zip"
    create_package(str(ROOT), target, include_gitignore=True)
    return target


def test_a_submitted_job_uploads_less_than_five_megabytes(package: Path) -> None:
    assert package.stat().st_size < MOST_BYTES


def test_it_uploads_all_code_and_neither_tests_nor_models_nor_runs(package: Path) -> None:
    names = {Path(*Path(name).parts) for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    folders = ("vlrm_ray", "actors", "jobs")
    code = {path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert code <= names
    assert not {name.parts[0] for name in names} & {"tests", "docs", "runs", ".git", ".venv"}
    assert not any(name.suffix in (".safetensors", ".pt", ".onnx") for name in names)


def test_what_the_package_reads_besides_code_is_uploaded(package: Path) -> None:
    names = set(zipfile.ZipFile(package).namelist())
    suffixes = {".yaml", ".json", ".j2", ".css"}
    data = {p for p in (ROOT / "vlrm_ray").rglob("*") if p.suffix in suffixes and "assets" not in p.parts}
    assert {str(path.relative_to(ROOT)) for path in data} <= names


def test_a_job_without_the_shipped_models_finds_those_of_its_node(tmp_path: Path) -> None:
    """The job's copy of the code is somewhere else, without the models."""
    shutil.copytree(ROOT / "vlrm_ray" / "scenes" / "assets", tmp_path / "image")
    with (
        mock.patch.object(config_loading, "__file__", str(tmp_path / "job" / "vlrm_ray" / "config_loading.py")),
        mock.patch.dict(os.environ, {"VLRM_ASSETS": str(tmp_path / "image")}),
    ):
        assert Path(config.asset_path("assets:vlm")) == tmp_path / "image" / "vlm"
        del os.environ["VLRM_ASSETS"]  # then those of the installed package
        installed = Path(config.asset_path("assets:vlm"))
        assert installed.is_dir() or installed == tmp_path / "job" / "vlrm_ray" / "scenes" / "assets" / "vlm"
