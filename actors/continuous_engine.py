"""An engine that answers requests of many calls at the same time, each on its own (continuous batching).

So many requests are sent ahead that the engine always has work, and so few that their images fit into memory. The others
wait with no more than their texts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from actors.load_counter import LoadCounter
from actors.suspects import InProgress, Suspect
from vlrm_ray.engines import Completion, EngineDied, LoadReport, Request, Sampling, refusal_reason
from vlrm_ray.errors import StorageError
from vlrm_ray.reward.loop_thread import all_of
from vlrm_ray.reward.missing_judgements import judged

T = TypeVar("T")
CHECK_SECONDS = 1.0
"""Interval at which it is checked that the engine's process still runs, while it is not working on requests."""
AHEAD = 2
"""Sequences that are sent to the engine at the same time, as a multiple of what it can work on."""


class Backend(Protocol):
    """An engine that takes single requests.

    `generate` and `score` raise `EngineDied` if the engine's process has ended, and any other exception if the request is
    refused.
    """

    async def generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        """Generate `sampling.n` answers to a request."""
        ...

    async def score(self, request: Request) -> Completion:
        """Compute p(Yes) and p(No) as the next token after the request's prefix."""
        ...

    async def load(self, folder: str) -> None:
        """Replace the weights by those of a model folder. There are no requests meanwhile."""
        ...

    async def close(self) -> None:
        """Shut the engine down and free its memory."""
        ...


class LoadFailed(EngineDied):
    """An engine could not replace its weights, and was closed, because some of them may be the new ones."""


class ContinuousEngine:
    """Makes an `actors.serial_engine.AsyncEngine` of a `Backend`.

    Attributes:
        backend: the engine.
    """

    def __init__(self, backend: Backend, max_num_seqs: int) -> None:
        """Use an engine that works on at most `max_num_seqs` sequences at the same time."""
        self.backend, self._max_num_seqs = backend, max_num_seqs
        self._places, self._progress = Places(AHEAD * max_num_seqs), InProgress()

    def load_report(self) -> LoadReport:
        """See `AsyncEngine.load_report`. Of what is sent ahead, the engine works on no more than it can; the rest waits."""
        report = self._places.load.report()
        ahead = max(0, report.running - self._max_num_seqs)
        return replace(report, running=report.running - ahead, waiting=report.waiting + ahead)

    def suspects(self) -> list[Suspect]:
        """See `AsyncEngine.suspects`. Requests that wait for a place are not among them."""
        return self._progress.suspects

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `AsyncEngine.generate`."""
        return await all_of(self._generate(request, sampling) for request in requests)

    async def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `AsyncEngine.score`."""

        async def score(request: Request) -> Completion:
            async with self._places.taken(1):
                with self._progress.work_on([Suspect(request)]):
                    return await self._score(request)

        return await all_of(map(score, requests))

    async def load(self, folder: str) -> None:
        """See `AsyncEngine.load`. Waits until all requests are answered; those that come meanwhile wait."""
        async with self._places.taken(self._places.limit, counted=False):
            await self.backend.load(folder)

    async def close(self) -> None:
        """See `AsyncEngine.close`."""
        await self.backend.close()

    async def _generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        async with self._places.taken(sampling.n):
            with self._progress.work_on([Suspect(request, sampling)]):
                return await self._answers(request, sampling)

    async def _answers(self, request: Request, sampling: Sampling) -> list[Completion]:
        try:
            answers = await _unless_closed(self.backend.generate(request, sampling))
        except (EngineDied, StorageError):
            raise
        except Exception as error:  # engines, processors and image decoders raise many exception types
            return [Completion("", refused=refusal_reason(error))] * sampling.n
        self._places.load.count(tokens=sum(answer.tokens for answer in answers))
        if sampling.judgement == "ask":
            return await all_of(judged(self._score, request, answer) for answer in answers)
        return answers

    async def _score(self, request: Request) -> Completion:
        try:
            return await _unless_closed(self.backend.score(request))
        except (EngineDied, StorageError):
            raise
        except Exception as error:
            return Completion("", refused=refusal_reason(error))


class Places:
    """The places of an engine for sequences. Requests take them in the order in which they come.

    Attributes:
        limit: number of places.
        load: counts the sequences that have a place, and those that wait for one.
    """

    def __init__(self, limit: int) -> None:
        """Create free places."""
        self.limit = limit
        self._free = asyncio.Semaphore(limit)
        self._first = asyncio.Lock()  # held by the request that takes its places, so that no two wait for each other
        self.load = LoadCounter()

    @asynccontextmanager
    async def taken(self, sequences: int, *, counted: bool = True) -> AsyncIterator[None]:
        """Hold places for some sequences, at most all.

        Args:
            sequences: number of places.
            counted: whether `load` counts them.
        """
        needed, count = min(sequences, self.limit), sequences if counted else 0
        self.load.count(waiting=count)
        try:
            await self._take(needed)
        finally:
            self.load.count(waiting=-count)
        self.load.count(running=count)
        try:
            yield
        finally:
            self.load.count(running=-count, finished=count)
            self._give_back(needed)

    async def _take(self, places: int) -> None:
        async with self._first:
            for taken in range(places):
                try:
                    await self._free.acquire()
                except BaseException:  # the request is cancelled
                    self._give_back(taken)
                    raise

    def _give_back(self, places: int) -> None:
        for _ in range(places):
            self._free.release()


async def unless_ended(work: Coroutine[Any, Any, T], ended: Callable[[], bool]) -> T:
    """Result of some work of an engine's process, which never comes if the process ends before it has answered.

    Args:
        work: the work; it is cancelled if the process has ended.
        ended: whether the process has ended; asked every `CHECK_SECONDS`.

    Raises:
        EngineDied: the process has ended.
        Exception: what the work raises.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=CHECK_SECONDS)
            if not task.done() and ended():
                raise EngineDied("the engine's process has ended")
        return task.result()
    finally:
        task.cancel()


async def _unless_closed(work: Coroutine[Any, Any, T]) -> T:
    """Result of a backend. Raises EngineDied if the backend was closed, which cancels what it waits for."""
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # the call itself is cancelled
            raise
        raise EngineDied("the engine was closed") from None
