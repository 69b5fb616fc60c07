"""Interface of the engines in the actors, which many calls use at the same time, and its form for one call at a time."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from actors.load_counter import LoadCounter
from actors.suspects import InProgress, Suspect
from vlrm_ray.engines import (
    Completion,
    Engine,
    LoadReport,
    Request,
    Sampling,
    generate_isolated,
    score_isolated,
)
from vlrm_ray.reward.missing_judgements import with_judgements

T = TypeVar("T")


class AsyncEngine(Protocol):
    """An inference engine that many coroutines use at the same time.

    A request that the engine refuses gets completions with the reason, and does not fail the others. All methods raise
    `EngineDied` once the process of the engine has ended.
    """

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Generate `sampling.n` answers to each request, in the order of the requests."""
        ...

    async def score(self, requests: Sequence[Request]) -> list[Completion]:
        """Compute p(Yes) and p(No) as the next token after each request's prefix; the completions have no text."""
        ...

    async def load(self, folder: str) -> None:
        """Replace the weights by those of a model folder, between two requests."""
        ...

    async def close(self) -> None:
        """Shut the engine down and free its memory."""
        ...

    def load_report(self) -> LoadReport:
        """How busy the engine is; answers at once."""
        ...

    def suspects(self) -> list[Suspect]:
        """The requests that the engine worked on when its process ended."""
        ...


class SerialEngine:
    """Makes an `AsyncEngine` of an `Engine`: calls are answered one after the other, in the order in which they come.

    Each call reaches the engine as the batch that it is, so its answers do not depend on other calls. The engine lives in
    a thread of its own, which leaves the actor's event loop free.
    """

    def __init__(self, start: Callable[[], Engine]) -> None:
        """Start the engine; raises what `start` raises."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._engine = self._thread.submit(start).result()
        self._load, self._progress = LoadCounter(), InProgress()

    def load_report(self) -> LoadReport:
        """See `AsyncEngine.load_report`."""
        return self._load.report()

    def suspects(self) -> list[Suspect]:
        """See `AsyncEngine.suspects`."""
        return self._progress.suspects

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `AsyncEngine.generate`."""
        suspects = [Suspect(request, sampling) for request in requests]
        return await self._run(len(requests) * sampling.n, partial(self._generate, requests, sampling), suspects)

    async def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `AsyncEngine.score`."""
        return await self._run(
            len(requests), partial(score_isolated, self._engine, requests), list(map(Suspect, requests))
        )

    async def load(self, folder: str) -> None:
        """See `AsyncEngine.load`."""
        await self._run(0, partial(self._engine.load, folder))

    async def close(self) -> None:
        """See `AsyncEngine.close`."""
        await self._run(0, self._engine.close)
        self._thread.shutdown(wait=False)

    def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        answers = generate_isolated(self._engine, requests, sampling)
        self._load.count(tokens=sum(answer.tokens for group in answers for answer in group))
        return with_judgements(self._engine, requests, answers) if sampling.judgement == "ask" else answers

    async def _run(self, sequences: int, work: Callable[[], T], suspects: Sequence[Suspect] = ()) -> T:
        """Run some work in the engine's thread; `load_report` counts its sequences, and its requests may become suspects."""

        def counted() -> T:
            self._load.count(running=sequences, waiting=-sequences)
            try:
                with self._progress.work_on(suspects):
                    return work()
            finally:
                self._load.count(running=-sequences, finished=sequences)

        self._load.count(waiting=sequences)
        future = self._thread.submit(counted)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancel():  # it had not begun
                self._load.count(waiting=-sequences)
            raise
