"""The actors that the graph of a round works with, and how its stages report their progress."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle

from vlrm_ray.experts.verifier import Verifier


class ProgressReporter:
    """Reports progress to the `ProgressBoard` actor, without waiting for an answer."""

    def __init__(self, board: ActorHandle[Any]) -> None:
        self.board = board

    def add(self, stage: str, rows: int, seconds: float = 0.0, actor: str = "") -> None:
        """Add to a stage's row count and busy seconds.

        Args:
            stage: name of the stage.
            rows: rows that left the stage.
            seconds: how long the stage was busy with them, until now.
            actor: name of the actor that did the work; actors of a pool are identified by their Ray id.
        """
        if not actor and (identity := ray.get_runtime_context().get_actor_id()):
            actor = f"#{identity}"
        self.board.add.remote(stage, rows, seconds, actor)


@dataclass(frozen=True)
class StageActors:
    """The actors that a graph works with.

    Attributes:
        policy: handles of the policy generators.
        critics: handles of the critique writers.
        detector: actor class of the detector pool.
        reader: actor class of the reader pool.
        board: where stages report their progress.
        extractor: handle of the LLM claim extractor; None with another extractor, or if the policy extracts the claims.
        verifier: replaces the verifier that is made from the configured experts' calibrations.
        directory: actor whose method `engines` tells the present engines of a role, if their number changes.
        critic_versions: the version that each critic holds; empty if all hold the untrained model.
    """

    policy: Sequence[ActorHandle[Any]]
    critics: Sequence[ActorHandle[Any]]
    detector: type
    reader: type
    board: ProgressReporter
    extractor: ActorHandle[Any] | None = None
    verifier: Verifier | None = None
    directory: ActorHandle[Any] | None = None
    critic_versions: Sequence[int] = ()
