"""Fixtures that several modules share: the Ray cluster, two runs on another cluster, and the answers of vLLM."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.ray import clusters
from tests.ray.programs import ROOT, run_program
from tests.s3_server import S3Server, s3_server
from vlrm_ray import config as configuration
from vlrm_ray.config import asset_path
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, connected
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD

SETTINGS = ("cluster.dashboard=false", "cluster.object_store_mb=200", "train.start_timeout=300")


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """Temporary folder of the session's clusters. Its path is short: Ray puts Unix sockets into it."""
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture(scope="session")
def ray_cluster(ray_folder: str) -> Iterator[None]:
    """A local cluster, started as a run starts its own. All tests that use Ray in this process share it."""
    environment = {
        "RAY_TMPDIR": ray_folder,
        # Products in float32 on every CPU: on newer ones training multiplies in bfloat16, whose rounding hides errors.
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    }
    with mock.patch.dict(os.environ, environment):  # restores the environment in the end
        os.environ.pop("RAY_ADDRESS", None)
        with connected(configuration.load(None, SETTINGS), print):
            yield


@pytest.fixture(scope="session")
def fit_of_two(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of a training on two workers that was not interrupted."""
    from tests.ray.fits import fitted, new_ledger

    folder, steps = fitted(new_ledger(tmp_path_factory.mktemp("fit")), "train.workers=2")
    assert steps == [1, 2, 3, 4, 5, 6]
    return folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[S3Server]:
    """Images and prompts in a bucket."""
    with s3_server() as server:
        clusters.fill(server)
        yield server


@pytest.fixture(scope="session")
def two_runs(bucket: S3Server, ray_folder: str, tmp_path_factory: pytest.TempPathFactory) -> clusters.SideBySide:
    """Two runs at the same time on a cluster of one node. The first one works on the images of the bucket."""
    folder = Path(ray_folder, "two")
    folder.mkdir()
    return clusters.side_by_side(tmp_path_factory.mktemp("two"), folder, bucket.uri("data/prompts.jsonl"))


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 0.png to 3.png, and in `other` the shipped reward model with changed weights."""
    import torch

    from vlrm_ray import torchvision_shim

    torchvision_shim.install()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tmp_path_factory.mktemp("engines")
    for seed in range(4):
        paint(UNBIASED_WORLD.sample(seed)).image.save(folder / f"{seed}.png")
    model = AutoModelForImageTextToText.from_pretrained(asset_path("assets:vlm"), dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder / "other")
    AutoProcessor.from_pretrained(asset_path("assets:vlm")).save_pretrained(folder / "other")
    return folder


@pytest.fixture(scope="session")
def vllm_answers(engine_folder: Path) -> dict[str, Any]:
    """Output of `engine_answers.py`: "engine" has the answers of vLLM, "extractor" those of the LLM claim extractor."""
    program = Path(__file__).with_name("engine_answers.py")
    environment = {**WORKER_ENV, **CPU_ENV, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = run_program(str(program), str(engine_folder / "other"), str(engine_folder), **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
