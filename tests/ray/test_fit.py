"""Ray Train fits with FSDP2 on CPU: the number of workers does not change the model."""

import json
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.ray.fits import SHARED, START, fitted, largest_difference, new_ledger
from vlrm_ray import config as configuration
from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.reward.model_folder import SCORING
from vlrm_ray.reward.training.fit import fit

pytestmark = pytest.mark.usefixtures("ray_cluster")


def published(tmp_path: Path, *overrides: str) -> Path:
    """Model folder of a fit on three pairs."""
    config: Config = configuration.load(None, [*SHARED, *overrides])
    folder, metrics = fit(config, new_ledger(tmp_path, 3), 1, START)
    assert metrics["epoch"] == 2
    return Path(folder)


def test_two_workers_give_the_same_weights_as_one(tmp_path: Path, fit_of_two: Path) -> None:
    """The last batch of an epoch leaves the second worker without an image, and nothing hangs."""
    one, two = fitted(new_ledger(tmp_path), "train.workers=1")[0], fit_of_two
    assert largest_difference(one, two) < 1e-5
    assert largest_difference(one, Path(START)) > 1e-4
    card = json.loads((two / "vlrm_reward.json").read_text())
    assert card["scoring"].keys() == SCORING.keys()
    assert not [p for p in two.rglob("*") if p.suffix in (".pt", ".bin", ".pkl")]


def test_ctrl_c_during_a_fit_stays_with_the_handler_of_the_program(tmp_path: Path) -> None:
    """Ray Train sets its own, which ends the program from inside."""
    handlers = {signal.getsignal(signal.SIGINT)}
    with repeated(lambda: handlers.add(signal.getsignal(signal.SIGINT)), 0.05, "looking at the handler"):
        published(tmp_path, "train.workers=1")
    assert len(handlers) == 1


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
