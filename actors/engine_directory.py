"""Actor that tells the stages of the graph which engines there are at present."""

from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle

from actors.engine_actors import on_lasting_node


class EngineDirectory:
    """The engines of each role by number: `policy-3` is number 3 of the role "policy"."""

    def __init__(self) -> None:
        self._engines: dict[str, dict[int, ActorHandle[Any]]] = {}

    def set_engines(self, role: str, engines: dict[int, ActorHandle[Any]]) -> None:
        """Replace the engines of a role."""
        self._engines[role] = engines

    def engines(self, role: str) -> dict[int, ActorHandle[Any]]:
        """The engines of a role that take requests; empty before the first `set_engines`, also after a restart."""
        return self._engines.get(role, {})


def start_directory(selector: Mapping[str, str] | None) -> ActorHandle[Any]:
    """Start the directory of a run, which Ray starts again, without any engines, if its process or node is lost.

    Questions are not repeated: whoever asks goes on with the engines that it knows.

    Args:
        selector: label selector of the nodes of the role `cpu`; None if it has none.
    """
    options = {"name": "engine-directory", "max_restarts": -1} | on_lasting_node(selector)
    return ray.remote(EngineDirectory).options(**options).remote()
