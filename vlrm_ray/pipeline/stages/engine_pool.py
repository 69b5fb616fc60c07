"""Calls of the engine actors by the stages that wait for them."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ray.actor import ActorHandle

from vlrm_ray.engines import Completion, Request, Sampling, batches
from vlrm_ray.pipeline.engine_calls import REPORT_SECONDS, ActorDied, LeastLoaded, call
from vlrm_ray.pipeline.stage_actors import ProgressReporter

REQUESTS_PER_CALL = 8
"""Requests in one call of an engine, which a call's cost is shared by. A part waits for all of its requests in any case."""
Method = Callable[[ActorHandle[Any]], Any]
"""Returns a method of an actor's handle."""


class EnginePool:
    """The engine actors of one role, policy or critic.

    Requests are sent in small groups, each to the engine with the fewest sequences. With
    `reproducible`, all requests of a part are one batch, which always goes to the same engine: a part that is made again
    gives the same answers.

    The number of actors may change if there is a `directory`, which is asked for them from time to time.
    """

    def __init__(
        self,
        role: str,
        actors: Mapping[int, ActorHandle[Any]],
        board: ProgressReporter,
        *,
        reproducible: bool,
        timeout: float,
        directory: ActorHandle[Any] | None = None,
        others: Collection[int] = (),
    ) -> None:
        """Use some actors.

        Args:
            role: "policy" or "critic"; the actors are called policy-0, policy-1, ...
            actors: handles of `EngineHost` actors by number.
            board: where the time that each actor works is reported.
            reproducible: whether a part is one batch.
            timeout: seconds after which a call fails.
            directory: actor that knows the present actors of the role, if their number changes.
            others: numbers of actors of the role that are not used.
        """
        self.role, self.actors, self.others, self.board = role, dict(actors), frozenset(others), board
        self.reproducible, self.timeout, self.directory = reproducible, timeout, directory
        self.least_loaded, self._asked = LeastLoaded(max(self.actors, default=-1) + 1), 0.0

    async def generate(
        self, stage: str, part: int, requests: Sequence[Request], sampling: Sampling
    ) -> list[list[Completion]]:
        """`sampling.n` answers to each request, in order; see `EngineHost.generate`."""
        answers: list[list[Completion]] = await self._answers(stage, part, _generate, requests, sampling)
        return answers

    async def score(self, stage: str, part: int, requests: Sequence[Request]) -> list[Completion]:
        """The probabilities of both judgements for each request, in order; see `EngineHost.score`."""
        answers: list[Completion] = await self._answers(stage, part, _score, requests)
        return answers

    async def _answers(
        self, stage: str, part: int, method: Method, requests: Sequence[Request], *rest: Any
    ) -> list[Any]:
        """The answers to requests by a method of the actors."""
        if not requests:
            return []
        if self.reproducible:
            return await self._call(stage, list(self.actors)[part % len(self.actors)], method, list(requests), *rest)
        groups = batches(requests, REQUESTS_PER_CALL)
        answers = await asyncio.gather(*(self._to_least_loaded(stage, method, group, *rest) for group in groups))
        return [answer for group in answers for answer in group]

    async def _to_least_loaded(self, stage: str, method: Method, requests: Sequence[Request], *rest: Any) -> list[Any]:
        sequences = len(requests) * next((item.n for item in rest if isinstance(item, Sampling)), 1)
        while True:
            await self._follow_directory()
            self.least_loaded.update({index: actor.load_report for index, actor in self.actors.items()})
            with self.least_loaded.pick(sequences, self.actors) as index:
                actor = self.actors[index]
                try:
                    return await self._call(stage, index, method, list(requests), *rest)
                except ActorDied:
                    self._asked = 0.0
                    await self._follow_directory()
                    if self.actors.get(index) == actor:  # it did not end on purpose
                        raise

    async def _follow_directory(self) -> None:
        """Use the actors that the directory knows, if it has not been asked for a while."""
        if self.directory is None or time.monotonic() - self._asked < REPORT_SECONDS:
            return
        self._asked = time.monotonic()
        present = await self.directory.engines.remote(self.role)
        self.actors = {number: actor for number, actor in present.items() if number not in self.others} or self.actors
        self.least_loaded.resize(max(self.actors) + 1)

    async def _call(self, stage: str, index: int, method: Method, *arguments: Any) -> list[Any]:
        start, name = time.monotonic(), f"{self.role}-{index}"
        answers: list[Any] = await call(
            method(self.actors[index]),
            *arguments,
            timeout=self.timeout,
            name=name,
            waiting_for=f"answers of the stage {stage}",
        )
        self.board.add(stage, 0, time.monotonic() - start, name)
        return answers


def _generate(actor: ActorHandle[Any]) -> Any:
    return actor.generate


def _score(actor: ActorHandle[Any]) -> Any:
    return actor.score
