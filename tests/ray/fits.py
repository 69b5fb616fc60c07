"""Trainings with Ray Train that several tests look at."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from vlrm_ray import config as configuration
from vlrm_ray.config import asset_path
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.reward.training import fit
from vlrm_ray.reward.training.training_data import TrainingPair, to_table
from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger

START = asset_path("assets:vlm")
SHARED = [
    "train.epochs=2",
    "train.lr=1e-4",
    "train.batch=8",
    "train.max_tokens=200",
    "train.cpus=0.5",
]
PAIRS, STEPS = 7, 6
"""Batches of three, three and one pair in each of two epochs: the last one leaves the second of two workers without an image."""


def commit_selected_pairs(ledger: Ledger, count: int) -> None:
    """Commit `count` prompts with one selected pair each."""
    pairs = []
    for index in range(count):
        facts = "red circle top left"
        image = store_image(UNBIASED_WORLD.sample(index), ledger)
        critiques = format_critique(facts, "a yes", True), format_critique(facts, "b no", False)
        responses = "There is a red circle.", "There is a blue star."
        pairs.append(TrainingPair(f"pair-{index}", image, "", "What do you see?", *responses, *critiques))
    sizes = {"select": [100 + 37 * index % 50 for index in range(count)]}  # they decide which worker learns a pair
    ledger.put_part(1, 0, {"select": to_table(pairs, TrainingPair)}, {"sizes": sizes})


def new_ledger(folder: Path, pairs: int = PAIRS) -> Ledger:
    """A run whose first round has selected some pairs."""
    ledger = Ledger(str(folder / "run"))
    commit_selected_pairs(ledger, pairs)
    return ledger


def fitted(ledger: Ledger, *overrides: str, log: Any = print) -> tuple[Path, list[int]]:
    """Model folder of a fit on `PAIRS` pairs that saves every second step, and the numbers of the steps that it made."""
    import ray

    from actors.progress_board import ProgressBoard

    config = configuration.load(None, [*SHARED, "train.checkpoint_steps=2", *overrides])
    board = ray.remote(num_cpus=0)(ProgressBoard).remote()
    folder, metrics = fit.fit(config, ledger, 1, START, board=board, log=log)
    assert (metrics["epoch"], metrics["step"]) == (2, STEPS)
    return Path(folder), [record["step"] for record in ray.get(board.steps.remote(0))[1]]


def largest_difference(first: Path, second: Path) -> float:
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
