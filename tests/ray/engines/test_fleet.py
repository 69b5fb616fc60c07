"""The engines of a run are closed and started again on one cluster, under the same names, and load new versions."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import ray
from ray.util import list_named_actors

from actors.fleet import Fleet
from vlrm_ray import config as configuration
from vlrm_ray.config import asset_path
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.reward.canary import WrongWeights
from vlrm_ray.reward.model_folder import CARD
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = [
    "cluster.placement=phased",
    "policy.engine.kind=transformers",
    "critic.engine.kind=transformers",
    "critic.engine.actors=1",
]
NAMES = {"policy-0", "critic-0", "progress-board"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shipped model as a published folder, with its canary."""
    import torch

    from vlrm_ray import torchvision_shim

    torchvision_shim.install()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vlrm_ray.reward.publish import write_folder

    folder = tmp_path_factory.mktemp("published")
    model = AutoModelForImageTextToText.from_pretrained(asset_path("assets:vlm"), dtype=torch.float32).eval()
    write_folder(model, AutoProcessor.from_pretrained(asset_path("assets:vlm")), folder, "compact", {})
    yield folder


def test_engines_are_closed_for_training_start_again_and_serve_another_run(tmp_path: Path, published: Path) -> None:
    ledger = Ledger(str(tmp_path / "run"))
    with closing(Fleet(configuration.load(None, SETTINGS), ledger)) as fleet:
        assert [health.problem for health in fleet.start()] == ["", ""]
        fleet.release_devices()
        assert set(list_named_actors()) & NAMES == {"progress-board"}
        fleet.reacquire_devices()
        assert set(list_named_actors()) >= NAMES
        ledger.publish(1, published)
        ray.get(fleet.critics[0].load.remote(f"{VERSION}1", ledger))
        assert ray.get(fleet.critics[0].health.remote()).version == 1
        shared = fleet.share_with(fleet.config, Ledger(str(tmp_path / "another run")))
        assert (shared.policy, shared.critics) == (fleet.policy, fleet.critics)
        # The other run has trained no version, so its critics hold the untrained model again.
        assert ray.get(shared.critics[0].health.remote()).version == 0
    assert set(list_named_actors()) & NAMES == set()


def test_all_critics_load_a_version_and_a_wrong_canary_is_named_with_both_numbers(
    tmp_path: Path, published: Path
) -> None:
    ledger = Ledger(str(tmp_path))
    settings = configuration.load(None, [*SETTINGS, "critic.engine.actors=2"])
    with closing(Fleet(settings, ledger)) as fleet:
        fleet.start(policy=False)
        ledger.publish(1, published)
        assert fleet.load(1) < 1e-4  # the same weights
        assert [ray.get(critic.health.remote()).version for critic in fleet.critics] == [1, 1]
        card = json.loads((published / CARD).read_text())
        card["canary"]["yes"] = card["canary"]["no"]
        (published / CARD).write_text(json.dumps(card))
        ledger.publish(2, published)
        with pytest.raises(
            WrongWeights, match=r"critic-\d on node \S+ has not loaded version 2: .* are -?\d\.\d+ .* 0\.0000"
        ):
            fleet.load(2)
        # Both critics answer, each request as if it were alone.
        requests = [Request(f"Question: What? Response: {i}. Yes or No.", None) for i in range(3)]
        done: list[int] = []
        answers = fleet.generate("critic", requests, Sampling(4), done.append)
        assert [len(group) for group in answers] == [1, 1, 1]
        assert done == [3]
        # The critic whose refusal came second may still be scoring its canary.
        deadline = time.monotonic() + 60
        while any(load["running"] for load in fleet.loads().values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert {name: load["running"] for name, load in fleet.loads().items()} == {"critic-0": 0, "critic-1": 0}


def test_engines_that_do_not_start_in_time_are_named(tmp_path: Path) -> None:
    settings = configuration.load(None, [*SETTINGS, "cluster.start_timeout=10"])
    short = settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"start_timeout": 0.01})})
    with (
        closing(Fleet(short, Ledger(str(tmp_path)))) as fleet,
        pytest.raises(
            UserError,
            match=r"^policy-0, critic-0: no answer within 0\.01 s while waiting for the start of its engine "
            r"\(free in the whole cluster: [\d.]+ CPU, 0 GPU\); .*start_timeout",
        ),
    ):
        fleet.start()


def test_the_actor_names_are_free_once_a_fleet_is_closed(tmp_path: Path) -> None:
    """The study has many runs on one cluster, and may still hold the fleets of earlier ones."""
    settings = configuration.load(None, SETTINGS)
    fleets = []
    for _ in range(3):
        fleets.append(Fleet(settings, Ledger(str(tmp_path))))
        fleets[-1].close()
    assert set(list_named_actors()) & NAMES == set()
