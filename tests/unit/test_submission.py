"""What `ray job submit --working-dir .` uploads, measured by Ray's own packaging, where its job finds the rest, and what it sets."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import yaml

from jobs import iterate, score
from tests.ray.programs import exit_status
from vlrm_ray import config, config_loading
from vlrm_ray.pipeline import cluster

ROOT = Path(__file__).parents[2]
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ray._private.runtime_env.packaging import create_package

    target = tmp_path_factory.mktemp("package") / "package.zip"
    create_package(str(ROOT), target, include_gitignore=True)
    return target


def test_a_second_environment_stays_behind(tmp_path: Path) -> None:
    """vLLM's builds for CPU and GPU need an environment each: VENV=.venv-gpu."""
    from ray._private.runtime_env.packaging import create_package

    (tmp_path / "checkout" / ".venv-gpu").mkdir(parents=True)
    (tmp_path / "checkout" / ".venv-gpu" / "large.so").write_text("")
    shutil.copy(ROOT / ".rayignore", tmp_path / "checkout")
    create_package(str(tmp_path / "checkout"), tmp_path / "package.zip", include_gitignore=True)
    assert not any("large.so" in name for name in zipfile.ZipFile(tmp_path / "package.zip").namelist())


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


def runtime_env_of(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The runtime environment of a run's workers, as Ray merges it out of a submitted job's own and the driver's."""
    import ray
    from ray.runtime_env.runtime_env import _merge_runtime_env

    given: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        given.append(options["runtime_env"])
        return SimpleNamespace(dashboard_url=None, address_info={})

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv(cluster.SUBMITTED_JOB_ENV, json.dumps({"runtime_env": job, "metadata": {}}))
    cluster._join(config.load(None, ["offline=true"]), "10.0.0.1:6379", lambda _: None)
    merged: Any = _merge_runtime_env(job, given[0])  # type: ignore[arg-type]
    assert merged is not None, "Ray refuses to join"
    return dict(merged)


@pytest.mark.parametrize("job", [{}, {"working_dir": "gcs://_ray_pkg_0.zip"}])
def test_a_job_without_variables_of_its_own_has_those_of_the_run(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = runtime_env_of(job, monkeypatch)["env_vars"]
    assert variables.items() >= cluster.environment(config.load(None, ["offline=true"])).items()


def test_variables_of_a_submitted_job_take_precedence_because_ray_refuses_any_that_both_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = cluster.environment(config.load(None, ["offline=true"]))
    own["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "240"
    for name in own:
        job = {"working_dir": "gcs://_ray_pkg_0.zip", "env_vars": {name: "mine", "OTHER": "1"}}
        assert runtime_env_of(job, monkeypatch)["env_vars"] == {**own, name: "mine", "OTHER": "1"}
        assert cluster.without_those_of_the_job(own) == {key: value for key, value in own.items() if key != name}


def test_a_driver_can_join_with_the_runtime_environment_of_the_shipped_rayjob(monkeypatch: pytest.MonkeyPatch) -> None:
    job = yaml.safe_load((ROOT / "cluster" / "kuberay-rayjob.yaml").read_text())["spec"]
    assert "env_vars" not in yaml.safe_load(job["runtimeEnvYAML"])  # the images set what its driver needs
    runtime_env_of(yaml.safe_load(job["runtimeEnvYAML"]), monkeypatch)


JOB = {"runtime_env": {"working_dir": "gcs://_ray_pkg_0.zip"}, "metadata": {}}


@pytest.mark.parametrize("folder", ["runs", "./runs", "~/runs"])
def test_a_submitted_job_may_not_write_into_its_copy_of_the_code(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next job, with any changed file, would have another copy, and begin the run anew."""
    monkeypatch.setenv(cluster.SUBMITTED_JOB_ENV, json.dumps(JOB))
    assert exit_status(iterate.main, f"folder={folder}", "cluster.address=192.0.2.1:6379") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: folder={folder} is relative, so it would be in this job's own copy of the code")
    assert len(error.splitlines()) == 1
    assert exit_status(score.main, "--rm=/rm", "--data=/rows.jsonl", "--out=scores.jsonl") == 2
    assert capsys.readouterr().err.startswith("error: --out=scores.jsonl is relative")


def test_absolute_folders_uris_and_runs_outside_such_a_job_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.check_kept("folder", "runs")
    monkeypatch.setenv(cluster.SUBMITTED_JOB_ENV, json.dumps({"runtime_env": {}, "metadata": {}}))
    cluster.check_kept("folder", "runs")  # it was submitted without the code, and runs where `ray start` did
    monkeypatch.setenv(cluster.SUBMITTED_JOB_ENV, json.dumps(JOB))
    for folder in ("/shared/runs", "s3://bucket/runs?region=x", "gs://bucket/runs"):
        cluster.check_kept("folder", folder)
