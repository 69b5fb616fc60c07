"""The engines of a run come and go on one cluster, under the same names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util import list_named_actors

from jobs.crew import Crew
from vlrm_ray import config as configuration
from vlrm_ray.config import asset_path
from vlrm_ray.ledger import Ledger

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
    crew = Crew(configuration.load(None, SETTINGS), Ledger(str(tmp_path)))
    assert [health.problem for health in crew.start()] == ["", ""]
    crew.step_aside()
    assert set(list_named_actors()) & NAMES == {"progress-board"}
    crew.come_back()
    assert set(list_named_actors()) >= NAMES
    ray.get(crew.critics[0].load.remote(1, asset_path("assets:vlm")))
    lent = crew.lend(crew.config, Ledger(str(tmp_path / "another run")))
    assert (lent.policy, lent.critics) == (crew.policy, crew.critics)
    assert ray.get(lent.critics[0].health.remote()).version == 0  # untrained, whatever the first run had loaded
    crew.close()
    assert set(list_named_actors()) & NAMES == set()


def test_the_next_run_on_a_cluster_finds_the_names_free(cluster: None, tmp_path: Path) -> None:
    """The study goes through many runs on one cluster, whoever still holds the earlier ones."""
    settings = configuration.load(None, SETTINGS)
    crews = []
    for _ in range(3):
        crews.append(Crew(settings, Ledger(str(tmp_path))))
        crews[-1].close()
    assert set(list_named_actors()) & NAMES == set()
