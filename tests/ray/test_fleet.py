"""The engines of a run are closed and started again on one cluster, under the same names."""

from contextlib import closing
from pathlib import Path

import pytest
import ray
from ray.util import list_named_actors

from actors.fleet import Fleet
from vlrm_ray import config as configuration
from vlrm_ray.config import asset_path
from vlrm_ray.store.ledger import Ledger

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = [
    "cluster.placement=phased",
    "policy.engine.kind=transformers",
    "critic.engine.kind=transformers",
    "critic.engine.actors=1",
]
NAMES = {"policy-0", "critic-0", "progress-board"}


def test_engines_are_closed_for_training_start_again_and_serve_another_run(tmp_path: Path) -> None:
    with closing(Fleet(configuration.load(None, SETTINGS), Ledger(str(tmp_path)))) as fleet:
        assert [health.problem for health in fleet.start()] == ["", ""]
        fleet.release_devices()
        assert set(list_named_actors()) & NAMES == {"progress-board"}
        fleet.reacquire_devices()
        assert set(list_named_actors()) >= NAMES
        ray.get(fleet.critics[0].load.remote(1, asset_path("assets:vlm")))
        shared = fleet.share_with(fleet.config, Ledger(str(tmp_path / "another run")))
        assert (shared.policy, shared.critics) == (fleet.policy, fleet.critics)
        # The other run has trained no version, so its critics hold the untrained model again.
        assert ray.get(shared.critics[0].health.remote()).version == 0
    assert set(list_named_actors()) & NAMES == set()


def test_the_actor_names_are_free_once_a_fleet_is_closed(tmp_path: Path) -> None:
    """The study has many runs on one cluster, and may still hold the fleets of earlier ones."""
    settings = configuration.load(None, SETTINGS)
    fleets = []
    for _ in range(3):
        fleets.append(Fleet(settings, Ledger(str(tmp_path))))
        fleets[-1].close()
    assert set(list_named_actors()) & NAMES == set()
