"""Where Ray places the roles of a run on simulated nodes with declared GPUs, and what is left when the run has ended.

Five nodes, one for each role. Policy generators take half a GPU, the critic shards its model over two (`tensor_parallel`),
each of two train workers has a GPU, experts take a quarter.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ray.programs import run_program

PROGRAM = str(Path(__file__).with_name("simulated_placement.py"))
ATTEMPTS = 3
"""Ray allows a node 30 s to start, which a busy machine exceeds."""
NOTHING = {"actors": {}, "groups": 0, "gpus": 0}


@pytest.fixture(scope="module")
def found(ray_folder: str) -> dict[str, Any]:
    for attempt in range(ATTEMPTS):
        done = run_program(PROGRAM, f"{ray_folder}/p{attempt}")
        if "timed out during startup" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_each_role_is_on_its_nodes(found: dict[str, Any]) -> None:
    """The node of the train workers has most free GPUs: without labels, Ray would place engines and experts there too."""
    run = found["disaggregated"]
    assert run["engines"]["SimulatedHost"] == ["generate"] * 4 + ["judge"]
    assert run["engines"]["ProgressBoard"] == ["cpu"]
    pools = {name: set(nodes) for name, nodes in run["rollout"].items() if name.startswith("MapWorker")}
    experts = {name for name in pools if "Detector" in name or "Reader" in name}
    assert len(experts) == 2
    assert len(pools) == 7
    assert all(nodes == ({"expert"} if name in experts else {"cpu"}) for name, nodes in pools.items()), pools


def test_train_workers_have_their_gpus_beside_the_engines(found: dict[str, Any]) -> None:
    training = found["disaggregated"]["training"]
    assert training["seen"]["RayTrainWorker"] == ["train", "train"]
    assert training["gpus"] == 1
    assert training["seen"]["SimulatedHost"] == ["generate"] * 4 + ["judge"]


def test_a_training_never_waits_for_ever_behind_engines(found: dict[str, Any]) -> None:
    error = found["behind engines"]["training"]["error"]
    assert "could not start 2 workers with 1 CPU and 1 GPU each on nodes with vlrm-role=in(generate,judge)" in error
    assert "train.start_timeout=10 s" in error
    assert "cluster.placement=phased" in error


def test_phased_engines_give_their_gpus_to_the_training_and_get_them_back(found: dict[str, Any]) -> None:
    run = found["phased"]
    assert sorted(run["training"]["seen"]["RayTrainWorker"]) == ["generate", "judge"], run["training"]
    assert run["engines after training"]["SimulatedHost"] == ["generate"] * 4 + ["judge"]


@pytest.mark.parametrize("name", ["disaggregated", "behind engines", "phased"])
def test_nothing_is_left_on_the_cluster_after_a_run(name: str, found: dict[str, Any]) -> None:
    assert found[name]["remains"] == NOTHING


def test_the_check_before_a_run_knows_the_nodes(found: dict[str, Any]) -> None:
    refusals = found["refusals"]
    assert refusals["label"].startswith(
        "no node of the cluster has the label vlrm-role=trainer, which cluster.labels.train"
    )
    assert "is large enough for a critique writer (0.25 CPU and 4 GPU, on one node)" in refusals["tensor_parallel"]
    assert refusals["fits"] == ""
