"""Runs the actors of a run on a simulated cluster of labelled nodes with declared GPUs, and prints where they were as JSON.

The nodes, the fleet, the graph, Ray Data and Ray Train are real. Engines, experts and the training loop are simulated.

    python tests/ray/simulated_placement.py FOLDER

FOLDER needs a short path: Ray puts its sockets there.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.simulated import SimulatedDetector, SimulatedEngine, SimulatedReader, verifier
from vlrm_ray.config import Config, load
from vlrm_ray.engines import EngineSettings, Health
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import placement
from vlrm_ray.store.ledger import Ledger

LABEL = "vlrm-role"
NODES = {"cpu": (6, 0), "generate": (1, 2), "judge": (1, 2), "train": (2, 4), "expert": (1, 1)}
"""Logical CPUs and declared GPUs of the node of each role. The head is the node `cpu`."""
SIZES = (
    "policy.samples=2", "policy.image_free=0", "policy.image_degraded=0", "policy.engine.reproducible=false", "part_rows=8",
    "critic.k=1", "critic.engine.reproducible=false", "policy.engine.actors=4", "policy.engine.gpus=0.5",
    "critic.engine.actors=1", "critic.engine.gpus=1", "critic.engine.tensor_parallel=2", "train.workers=2", "train.gpus=1",
    "train.cpus=1", "train.max_failures=0", "experts.detector.pool={min: 2, max: 2, cpus: 0.25, gpus: 0.25}",
    "experts.reader.pool={min: 1, max: 1, cpus: 0.25, gpus: 0.25}", "cluster.labels=vlrm-role",
)  # fmt: skip
SHARED = "{generate: {vlrm-role: generate}, judge: {vlrm-role: judge}, train: {vlrm-role: 'in(generate, judge)'}}"
"""Selectors of train workers that use the engines' GPUs."""


class SimulatedHost(SimulatedEngine):
    """Stands for an `EngineHost`."""

    def __init__(self, name: str, _settings: EngineSettings, _ledger: Ledger, _index: int = 0) -> None:
        super().__init__(64, 0.0, critic=name.startswith("critic"))
        self.name = name

    async def health(self) -> Health:
        """See `EngineHost.health`."""
        return Health(self.name, 0, "simulated")

    async def close(self) -> None:
        """See `EngineHost.close`."""


def train_loop(_: dict[str, Any]) -> None:
    """Report once, with a checkpoint."""
    import ray.train

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"of-{ray.train.get_context().get_world_rank()}").write_text("")
        ray.train.report({"gpus": len(ray.get_gpu_ids())}, checkpoint=ray.train.Checkpoint.from_directory(folder))


@contextmanager
def cluster(folder: str) -> Iterator[None]:
    """The nodes; this process is connected to them."""
    os.environ |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    os.environ |= {"RAY_DATA_USE_DATASOURCE_V2": "0", "RAY_AUTH_MODE": "disabled", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    os.environ |= {"RAY_worker_register_timeout_seconds": "300"}  # Ray's 60 s are too few on a busy machine
    Path(folder, "ray").mkdir(parents=True, exist_ok=True)
    import ray
    from ray.cluster_utils import Cluster

    def arguments(role: str) -> dict[str, Any]:
        cpus, gpus = NODES[role]
        return {"num_cpus": cpus, "num_gpus": gpus, "labels": {LABEL: role}, "object_store_memory": 100 << 20}

    nodes = Cluster(initialize_head=True, head_node_args={**arguments("cpu"), "include_dashboard": False})
    try:
        for role in NODES.keys() - {"cpu"}:
            nodes.add_node(**arguments(role))
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR", namespace="placement")
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


RAYS_OWN = ("ActorLocationTracker", "DatasetManager")
"""Actors without resources that Ray Data and Ray Train keep until the driver ends."""


def alive(states: Collection[str] = ("ALIVE", "RESTARTING")) -> dict[str, list[str]]:
    """Roles of the nodes of the living actors, or of those in other states, by class."""
    import ray

    roles = {node["NodeID"]: node["Labels"].get(LABEL, "") for node in ray.nodes()}
    found: dict[str, list[str]] = {}
    for actor in ray._private.state.actors().values():
        name = actor["ActorClassName"]
        if actor["State"] in states and not name.startswith("_") and name not in RAYS_OWN:
            found.setdefault(name, []).append(roles.get(actor["Address"]["NodeID"], "?"))
    return {name: sorted(nodes) for name, nodes in found.items()}


@contextmanager
def watched() -> Iterator[dict[str, list[str]]]:
    """Where actors are while the block runs."""
    seen: dict[str, list[str]] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.3):
            seen.update(alive())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()
        for name, nodes in alive(("DEAD",)).items():  # pools that lived too shortly to be seen
            if nodes := [node for node in nodes if node != "?"]:
                seen.setdefault(name, nodes)


def remains() -> dict[str, Any]:
    """What is left once a run has ended: actors, placement groups, and GPUs in use."""
    import ray
    from ray.util import placement_group_table

    for _ in range(100):
        groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
        used = sum(gpus for _, gpus in NODES.values()) - ray.available_resources().get("GPU", 0)
        left = {"actors": alive(), "groups": len(groups), "gpus": used}
        if not any(left.values()):
            break
        time.sleep(0.3)
    return left


def rollout(config: Config, ledger: Ledger, fleet: Any) -> dict[str, list[str]]:
    """Run the graph; returns where its actors were."""
    from vlrm_ray.pipeline.graph import build_graph, configure_ray_data
    from vlrm_ray.scenes.images import store_image
    from vlrm_ray.scenes.world import UNBIASED_WORLD
    from vlrm_ray.types import PromptRef

    configure_ray_data(config.cluster)
    images = [store_image(UNBIASED_WORLD.sample(seed), ledger) for seed in range(4)]
    refs = [PromptRef(images[i % 4], f"What do you see? ({i})") for i in range(16)]
    parts = {0: refs[:8], 1: refs[8:]}
    with watched() as seen:
        for _ in build_graph(config, 1, parts, fleet.stage_actors(), ledger, ledger).iter_batches(batch_size=None):
            pass
    return seen


def fitted(config: Config, ledger: Ledger) -> dict[str, Any]:
    """Run a training; returns where its workers were, and the number of GPUs of each, or the error."""
    from vlrm_ray.reward.training import fit

    with watched() as seen:
        try:
            _, metrics = fit.fit(config, ledger, 1, "unused")
            return {"seen": seen, "gpus": metrics["gpus"]}
        except UserError as error:
            return {"seen": seen, "error": str(error)}


def refusals() -> dict[str, str]:
    """Messages of the check before a run, for plans that the cluster cannot hold."""
    plans = {
        "label": ["cluster.labels.train.vlrm-role=trainer"],
        "tensor_parallel": ["critic.engine.tensor_parallel=4"],
        "fits": [],
    }
    messages = dict.fromkeys(plans, "")
    for name, overrides in plans.items():
        try:
            placement.check_nodes(load(None, [*SIZES, *overrides]), placement.nodes_of_cluster(), "the cluster")
        except UserError as error:
            messages[name] = str(error)
    return messages


def run(folder: str, name: str, *overrides: str, with_rollout: bool) -> dict[str, Any]:
    """One round: engines, the graph if wanted, training; what was where, and what is left in the end."""
    from actors import fleet as fleets
    from tests.ray.fits import commit_selected_pairs

    config, ledger = load(None, [*SIZES, *overrides]), Ledger(f"{folder}/{name}")
    fleet = fleets.Fleet(config, ledger, (SimulatedDetector, SimulatedReader), verifier())
    found: dict[str, Any] = {}
    try:
        fleet.start()
        found["engines"] = alive()
        if with_rollout:
            found["rollout"] = rollout(config, ledger, fleet)
            ledger.remove_round(1)
        commit_selected_pairs(ledger, 2)
        fleet.release_devices()
        found["training"] = fitted(config, ledger)
        fleet.reacquire_devices()
        found["engines after training"] = alive()
    finally:
        fleet.close()
    return found | {"remains": remains()}


def main() -> None:
    """Run all scenarios and print what was found."""
    from ray.train.torch import TorchConfig

    from actors import fleet as fleets
    from vlrm_ray.reward.training import fit

    fleets.PolicyGenerator = fleets.CritiqueWriter = SimulatedHost  # type: ignore[misc,assignment]
    fit.train_loop_per_worker = train_loop  # type: ignore[assignment]
    fit.TorchConfig = lambda backend, timeout_s: TorchConfig("gloo", timeout_s=timeout_s)  # type: ignore[assignment,misc]
    folder = sys.argv[1]
    with cluster(folder):
        shared = (f"cluster.labels={SHARED}",)
        found = {
            "refusals": refusals(),
            "disaggregated": run(folder, "disaggregated", with_rollout=True),
            "behind engines": run(folder, "behind", *shared, "train.start_timeout=10", with_rollout=False),
            "phased": run(folder, "phased", *shared, "cluster.placement=phased", with_rollout=False),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
