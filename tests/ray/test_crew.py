"""The engines of a run come and go on one cluster, under the same names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util import list_named_actors

from actors.fleet import Fleet
from vlrm_ray import config as configuration
from vlrm_ray.config import asset_path
from vlrm_ray.store.ledger import Ledger

SETTINGS = [
    "cluster.placement=phased",
    "policy.engine.kind=transformers",
    "critic.engine.kind=transformers",
    "critic.engine.actors=1",
]
NAMES = {"policy-0", "critic-0", "progress-board"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, namespace="vlrm",
        logging_level="ERROR", log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},
    )  # fmt: skip
    yield
    ray.shutdown()


def test_engines_step_aside_for_training_come_back_and_serve_another_run(cluster: None, tmp_path: Path) -> None:
    fleet = Fleet(configuration.load(None, SETTINGS), Ledger(str(tmp_path)))
    assert [health.problem for health in fleet.start()] == ["", ""]
    fleet.release_devices()
    assert set(list_named_actors()) & NAMES == {"progress-board"}
    fleet.reacquire_devices()
    assert set(list_named_actors()) >= NAMES
    ray.get(fleet.critics[0].load.remote(1, asset_path("assets:vlm")))
    shared = fleet.share_with(fleet.config, Ledger(str(tmp_path / "another run")))
    assert (shared.policy, shared.critics) == (fleet.policy, fleet.critics)
    assert ray.get(shared.critics[0].health.remote()).version == 0  # untrained, whatever the first run had loaded
    fleet.close()
    assert set(list_named_actors()) & NAMES == set()


def test_the_next_run_on_a_cluster_finds_the_names_free(cluster: None, tmp_path: Path) -> None:
    """The study goes through many runs on one cluster, whoever still holds the earlier ones."""
    settings = configuration.load(None, SETTINGS)
    fleets = []
    for _ in range(3):
        fleets.append(Fleet(settings, Ledger(str(tmp_path))))
        fleets[-1].close()
    assert set(list_named_actors()) & NAMES == set()
