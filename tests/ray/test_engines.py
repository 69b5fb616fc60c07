"""Real engines at tiny size: one set of scores, whichever library computes them; new weights in place."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlrm_ray.config import asset_path
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD

ROOT = Path(__file__).parents[2]
SCRIPT = """
import dataclasses, json, sys
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.engines import EngineSettings, Request, Sampling
from vlrm_ray.types import ImageCondition
kind, model, other, folder = sys.argv[1:]
if kind == "vllm":
    from actors.vllm_engine import VllmEngine as Engine
else:
    from actors.transformers_engine import TransformersEngine as Engine
engine = Engine(EngineSettings(kind, model, "float32", 512, 64, 64, 0.5, 0, 1))
asked = [Request(COMPACT.direct_prompt("What do you see?", f"There is a {c} circle."), f"{folder}/{i}.png") for i in range(4) for c in ("red", "blue")]
asked.append(Request(COMPACT.direct_prompt("What do you see?", "There is a red circle."), None))
degraded = [dataclasses.replace(r, condition=ImageCondition.IMAGE_DEGRADED) for r in asked[:2]]
def pairs(completions): return [[c.yes, c.no] for c in completions]
critiques = [Request(COMPACT.prompt("What do you see?", "There is a red circle.", "red circle top left"), f"{folder}/0.png", seed=5)]
guesses = [Request("Describe the image.", None, seed=5)]
result = {
    "scores": pairs(engine.score(asked + degraded)),
    "critique": [[c.text, c.yes, c.no] for c in engine.generate(critiques, Sampling(100))[0]],
    "sampled": [[c.text for c in engine.generate(guesses, Sampling(60, 1.0, n=8))[0]] for _ in range(2)],
}
engine.load(other)
result["after"] = pairs(engine.score(asked + degraded))
engine.load(model)
result["back"] = pairs(engine.score(asked + degraded))
print("RESULT", json.dumps(result))
"""
ENV = {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "TORCHDYNAMO_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and the tiny VLM with its weights shaken."""
    import torch

    from vlrm_ray import torchvision_shim

    torchvision_shim.install()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    made = tmp_path_factory.mktemp("engines")
    for seed in range(4):
        paint(UNBIASED_WORLD.sample(seed)).image.save(made / f"{seed}.png")
    model = AutoModelForImageTextToText.from_pretrained(asset_path("assets:vlm"), dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(made / "other")
    AutoProcessor.from_pretrained(asset_path("assets:vlm")).save_pretrained(made / "other")
    return made


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, dict[str, list[list[float]]]]:
    """What each engine answers, in a process of its own."""
    import os

    found = {}
    for kind in ("vllm", "transformers"):
        command = [sys.executable, "-c", SCRIPT, kind, asset_path("assets:vlm"), str(folder / "other"), str(folder)]
        environment = {**os.environ, **ENV, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, done.stderr[-3000:]
        found[kind] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def largest_gap(one: list[list[float]], two: list[list[float]]) -> float:
    return max(abs(a - b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("when", ["scores", "after", "back"])
def test_engines_give_the_same_scores(results: dict[str, dict[str, list[list[float]]]], when: str) -> None:
    assert largest_gap(results["vllm"][when], results["transformers"][when]) < 1e-3


@pytest.mark.parametrize("kind", ["vllm", "transformers"])
def test_loading_changes_the_scores_and_loading_back_restores_them(
    results: dict[str, dict[str, list[list[float]]]], kind: str
) -> None:
    found = results[kind]
    assert largest_gap(found["scores"], found["after"]) > 1e-3
    assert largest_gap(found["scores"], found["back"]) < 1e-6


def test_engines_write_and_judge_the_same_greedy_critique(results: dict[str, dict[str, list[list[float]]]]) -> None:
    (text, *masses), (other, *others) = results["vllm"]["critique"][0], results["transformers"]["critique"][0]
    assert text == other
    assert masses == pytest.approx(others, abs=1e-3)
    assert sum(masses) > 0.5


@pytest.mark.parametrize("kind", ["vllm", "transformers"])
def test_a_seeded_request_is_answered_alike_each_time(
    results: dict[str, dict[str, list[list[float]]]], kind: str
) -> None:
    first, second = results[kind]["sampled"]
    assert first == second
    assert len(set(map(str, first))) > 1
