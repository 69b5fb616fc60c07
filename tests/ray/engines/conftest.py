"""Fixtures that several modules share: images with a model, and the answers of vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ray.programs import ROOT, run_program
from vlrm_ray.config import asset_path
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD


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
