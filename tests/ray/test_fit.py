"""Ray Train fits with FSDP2 on CPU: as many workers as one likes give one model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from safetensors.torch import load_file

from vlrm_ray import config as configuration
from vlrm_ray.config import Config, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.reward.fit import fit
from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, to_table
from vlrm_ray.types import Prompt, SelectedPair

START = asset_path("assets:vlm")
SHARED = [
    "train.epochs=2",
    "train.lr=1e-4",
    "train.batch=8",
    "train.micro_batch=2",
    "train.cpus=0.5",
    "train.start_timeout=120",
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import os

    root = str(Path(__file__).parents[2])
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "30"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, logging_level="ERROR", log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30"}},
    )  # fmt: skip
    yield
    ray.shutdown()


def selected(ledger: Ledger, count: int) -> None:
    """Commit `count` prompts with one selected pair each."""
    rows = []
    for index in range(count):
        facts = "red circle top left"
        pair = SelectedPair(
            f"pair-{index}",
            "There is a red circle.",
            "There is a blue star.",
            format_critique(facts, "a yes", True),
            format_critique(facts, "b no", False),
            0.9,
            0.1,
        )
        prompt = Prompt(f"prompt-{index}", store_image(UNBIASED_WORLD.sample(index), ledger), "", "What do you see?")
        rows.append(Row(0, 1, prompt, selected=(pair,)))
    ledger.put_part(1, "select", 0, to_table(rows), {})


def run(tmp_path: Path, *overrides: str, pairs: int = 3) -> Path:
    config: Config = configuration.load(None, [*SHARED, *overrides])
    ledger = Ledger(str(tmp_path / "run"))
    selected(ledger, pairs)
    folder, metrics = fit(config, ledger, 1, 1, START)
    assert metrics["epoch"] == 2
    return folder


def largest_gap(one: Path, two: Path) -> float:
    a, b = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_two_workers_give_the_weights_that_one_gives(cluster: None, tmp_path: Path) -> None:
    """9 examples in batches of 8: the last batch leaves the second worker without a picture, and nothing hangs."""
    one = run(tmp_path / "one", "train.workers=1")
    two = run(tmp_path / "two", "train.workers=2")
    assert largest_gap(one, two) < 1e-5
    assert largest_gap(one, Path(START)) > 1e-4
    assert (two / "vlrm_reward.json").is_file()
    assert not [p for p in two.rglob("*") if p.suffix in (".pt", ".bin", ".pkl")]


def test_adapters_are_merged_into_the_published_model(cluster: None, tmp_path: Path) -> None:
    lora = run(tmp_path, "train.workers=2", "train.lora.rank=4")
    changed = {
        name
        for name, value in load_file(lora / "model.safetensors").items()
        if float((value - load_file(Path(START) / "model.safetensors")[name]).abs().max()) > 1e-6
    }
    assert changed
    assert all("proj" in name and "visual" not in name for name in changed)


def test_a_fit_without_resources_ends_with_one_line(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not start 2 workers"):
        run(tmp_path, "train.workers=2", "train.cpus=8", "train.start_timeout=20")
