"""The architecture, held: arrows point one way, and ground truth stays out of training."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = (
    "graph",
    "round",
    "rows",
    "tallies",
    "verify",
    "pairing",
    "selection",
    "evidence",
    "sight",
    "look",
    "geometry",
    "calibration",
    "fingerprints",
    "figures",
    "cache",
    "claims/__init__",
    "claims/rules",
    "claims/llm",
    "reward/loop",
    "reward/examples",
    "reward/batches",
    "reward/fit",
    "reward/task",
)


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(("folder", "forbidden"), [("vlrm_ray", ("actors", "jobs")), ("actors", ("jobs",))])
def test_arrows_point_one_way(folder: str, forbidden: tuple[str, ...]) -> None:
    wrong = [(f.name, m) for f in files(folder) for m in imported(f) if m.split(".")[0] in forbidden]
    assert wrong == []


def test_vocabulary_and_configuration_import_no_engine() -> None:
    heavy = {"torch", "ray", "vllm", "transformers"}
    for name in ("types", "config", "claims/rules", "verify", "pairing", "selection", "metrics", "critique"):
        assert heavy.isdisjoint(m.split(".")[0] for m in imported(ROOT / "vlrm_ray" / f"{name}.py")), name


@pytest.mark.parametrize("module", TRAINING)
def test_training_stages_never_see_ground_truth(module: str) -> None:
    """They import nothing of the scenes; the driver's evaluation alone reads the bench."""
    wrong = {m for m in imported(ROOT / "vlrm_ray" / f"{module}.py") if m.startswith("vlrm_ray.scenes")}
    assert wrong <= ({"vlrm_ray.scenes.bench", "vlrm_ray.scenes.pope"} if module == "round" else set())


def test_actors_never_see_ground_truth() -> None:
    assert not [m for f in files("actors") for m in imported(f) if m.startswith("vlrm_ray.scenes")]


def test_the_driver_is_short() -> None:
    assert len((ROOT / "jobs" / "iterate.py").read_text().splitlines()) <= 150
