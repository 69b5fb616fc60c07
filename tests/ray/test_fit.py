"""Ray Train fits with FSDP2 on CPU: the number of workers does not change the model."""

import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vlrm_ray import config as configuration
from vlrm_ray.config import Config, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.reward.training.fit import fit
from vlrm_ray.reward.training.training_data import TrainingPair, to_table
from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger

pytestmark = pytest.mark.usefixtures("ray_cluster")
START = asset_path("assets:vlm")
SHARED = [
    "train.epochs=2",
    "train.lr=1e-4",
    "train.batch=8",
    "train.max_tokens=200",
    "train.cpus=0.5",
]


def commit_selected_pairs(ledger: Ledger, count: int) -> None:
    """Commit `count` prompts with one selected pair each."""
    pairs = []
    for index in range(count):
        facts = "red circle top left"
        image = store_image(UNBIASED_WORLD.sample(index), ledger)
        critiques = format_critique(facts, "a yes", True), format_critique(facts, "b no", False)
        responses = "There is a red circle.", "There is a blue star."
        pairs.append(TrainingPair(f"pair-{index}", image, "", "What do you see?", *responses, *critiques))
    ledger.put_part(1, 0, {"select": to_table(pairs, TrainingPair)}, {})


def published(tmp_path: Path, *overrides: str) -> Path:
    """Model folder of a fit on three pairs."""
    config: Config = configuration.load(None, [*SHARED, *overrides])
    ledger = Ledger(str(tmp_path / "run"))
    commit_selected_pairs(ledger, 3)
    folder, metrics = fit(config, ledger, 1, START)
    assert metrics["epoch"] == 2
    return Path(folder)


def largest_difference(first: Path, second: Path) -> float:
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_two_workers_give_the_same_weights_as_one(tmp_path: Path) -> None:
    """9 examples in batches of 8: the last batch leaves the second worker without an image, and nothing hangs."""
    interrupt_handler = signal.getsignal(signal.SIGINT)
    one = published(tmp_path / "one", "train.workers=1")
    two = published(tmp_path / "two", "train.workers=2")
    assert largest_difference(one, two) < 1e-5
    assert largest_difference(one, Path(START)) > 1e-4
    assert (two / "vlrm_reward.json").is_file()
    assert not [p for p in two.rglob("*") if p.suffix in (".pt", ".bin", ".pkl")]
    assert signal.getsignal(signal.SIGINT) is interrupt_handler


def test_adapters_are_merged_into_the_published_model(tmp_path: Path) -> None:
    lora = published(tmp_path, "train.workers=2", "train.lora.rank=4")
    changed = {
        name
        for name, value in load_file(lora / "model.safetensors").items()
        if float((value - load_file(Path(START) / "model.safetensors")[name]).abs().max()) > 1e-6
    }
    assert changed
    assert all("proj" in name and "visual" not in name for name in changed)


def test_a_fit_without_resources_ends_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster never has 16 CPUs, so a short timeout is enough on any machine."""
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
    with pytest.raises(UserError, match="could not start 2 workers"):
        published(tmp_path, "train.workers=2", "train.cpus=8")
