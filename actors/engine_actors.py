"""What the fleet's actors are started with, and how they are ended."""

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray._private import state
from ray.actor import ActorHandle
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import EngineSettings
from vlrm_ray.store.models import portable

NAME_RELEASE_SECONDS = 30
"""Timeout for Ray to free the names of killed actors."""


def kill_all(named: Mapping[str, ActorHandle[Any]]) -> None:
    """Kill actors and wait until their names are free for the next actors."""
    for actor in named.values():
        ray.kill(actor)
    deadline = time.monotonic() + NAME_RELEASE_SECONDS
    while not named.keys().isdisjoint(list_named_actors()) and time.monotonic() < deadline:
        time.sleep(0.2)


def is_restarting(actor: ActorHandle[Any]) -> bool:
    """Whether Ray is starting an actor again, or waits for a node for it.

    Ray tells it of its own control store; its public API asks the dashboard, which a cluster may not have.
    """
    return bool(state.actors(actor_id=actor._actor_id.hex()).get("State") == "RESTARTING")


def on_lasting_node(selector: Mapping[str, str] | None) -> dict[str, Any]:
    """Options of an actor that other nodes come and go around: on a node of the role `cpu`, or else beside the driver.

    Args:
        selector: label selector of the role's nodes; None if it has none.
    """
    if selector:
        return {"num_cpus": 0, "label_selector": dict(selector)}
    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}


def engine_settings(engine: Engine, model: str, max_pixels: int) -> EngineSettings:
    """Settings for an engine's actor.

    Args:
        engine: configuration of the engine.
        model: reference to its model.
        max_pixels: largest number of pixels of an image.
    """
    return EngineSettings(
        kind=engine.kind,
        model=portable(model),
        dtype=engine.dtype,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        kv_cache_mb=engine.kv_cache_mb,
        gpu_memory=engine.gpu_memory,
        gpus=engine.gpus,
        tensor_parallel=engine.tensor_parallel,
        reproducible=engine.is_reproducible,
        max_pixels=max_pixels,
    )
