"""Actor that tells the stages of the graph which engines there are at present."""

from typing import Any

from ray.actor import ActorHandle


class EngineDirectory:
    """The engines of each role by number: `policy-3` is number 3 of the role "policy"."""

    def __init__(self) -> None:
        self._engines: dict[str, dict[int, ActorHandle[Any]]] = {}

    def set_engines(self, role: str, engines: dict[int, ActorHandle[Any]]) -> None:
        """Replace the engines of a role."""
        self._engines[role] = engines

    def engines(self, role: str) -> dict[int, ActorHandle[Any]]:
        """The engines of a role that take requests; empty before the first `set_engines`."""
        return self._engines.get(role, {})
