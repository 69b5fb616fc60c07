"""Calls of the engine actors by the stages that wait for them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.actor import ActorHandle

from vlrm_ray.engines import Completion, Request, Sampling, batches
from vlrm_ray.pipeline.engine_calls import LeastLoaded, call
from vlrm_ray.pipeline.stage_actors import ProgressReporter

REQUESTS_PER_CALL = 8
"""Requests in one call of an engine, which a call's cost is shared by. A part waits for all of its requests in any case."""


class EnginePool:
    """The engine actors of one role, policy or critic.

    Requests are sent in small groups, each to the engine with the fewest sequences. With
    `reproducible`, all requests of a part are one batch, which always goes to the same engine: a part that is made again
    gives the same answers.
    """

    def __init__(
        self,
        actors: Mapping[str, ActorHandle[Any]],
        board: ProgressReporter,
        *,
        reproducible: bool,
        timeout: float,
    ) -> None:
        """Use some actors.

        Args:
            actors: handles of `EngineHost` actors by name.
            board: where the time that each actor works is reported.
            reproducible: whether a part is one batch.
            timeout: seconds after which a call fails.
        """
        self.names, self.actors, self.board = list(actors), list(actors.values()), board
        self.reproducible, self.timeout = reproducible, timeout
        self.least_loaded = LeastLoaded(len(self.actors))

    async def generate(
        self, stage: str, part: int, requests: Sequence[Request], sampling: Sampling
    ) -> list[list[Completion]]:
        """`sampling.n` answers to each request, in order; see `EngineHost.generate`."""
        methods = [actor.generate for actor in self.actors]
        answers: list[list[Completion]] = await self._answers(stage, part, methods, requests, sampling)
        return answers

    async def score(self, stage: str, part: int, requests: Sequence[Request]) -> list[Completion]:
        """The probabilities of both judgements for each request, in order; see `EngineHost.score`."""
        methods = [actor.score for actor in self.actors]
        answers: list[Completion] = await self._answers(stage, part, methods, requests)
        return answers

    async def _answers(
        self, stage: str, part: int, methods: Sequence[Any], requests: Sequence[Request], *rest: Any
    ) -> list[Any]:
        """The answers to requests by a method, which is given for each actor."""
        if not requests:
            return []
        if self.reproducible:
            index = part % len(methods)
            return await self._call(stage, index, methods[index], list(requests), *rest)
        groups = batches(requests, REQUESTS_PER_CALL)
        answers = await asyncio.gather(*(self._to_least_loaded(stage, methods, group, *rest) for group in groups))
        return [answer for group in answers for answer in group]

    async def _to_least_loaded(
        self, stage: str, methods: Sequence[Any], requests: Sequence[Request], *rest: Any
    ) -> list[Any]:
        sequences = len(requests) * next((item.n for item in rest if isinstance(item, Sampling)), 1)
        self.least_loaded.update([actor.load_report for actor in self.actors])
        with self.least_loaded.pick(sequences) as index:
            return await self._call(stage, index, methods[index], list(requests), *rest)

    async def _call(self, stage: str, index: int, method: Any, *arguments: Any) -> list[Any]:
        start, name = time.monotonic(), self.names[index]
        answers: list[Any] = await call(
            method, *arguments, timeout=self.timeout, name=name, waiting_for=f"answers of the stage {stage}"
        )
        self.board.add(stage, 0, time.monotonic() - start, name)
        return answers
