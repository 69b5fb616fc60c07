"""Finds out on which requests the process of an engine ends.

The requests that an engine worked on when its process ended are suspects. A new engine runs them again and nothing else,
in two groups; a group on which it ends is halved again. A request on which it ends alone is refused from then on.

    256 suspects ─┬─ 128 well
                  └─ 128 ended ─┬─ 64 ended ─┬─ ...  1 ended: refused
                                └─ 64 well   └─ ...

If the engine ends on both first groups, it may be the engine that is at fault, or all requests may be bad ones. A request that
was answered before tells: the search goes on if the new engine answers it again, and ends if the engine ends on it too.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from actors.serial_engine import AsyncEngine
from actors.suspects import Refusals, Suspect
from vlrm_ray.engines import EngineDied, Request, Sampling
from vlrm_ray.errors import StorageError
from vlrm_ray.pipeline.refusals import about

MORE_DEATHS = 2
"""How often more than a search takes the engine may end during it: an engine that always ends is at fault itself."""
MOST_SEARCHES = 12
"""Found requests that a search may take more deaths for: an engine that ends at random is at fault itself, too."""
MOST_UNCHECKED = 2
"""Deaths after which a request that was answered before is tried, if no group has ended well."""
TRIES = 2
"""A request is refused if the actor itself has ended so often while it examined only this one."""
_log = logging.getLogger(__name__)


class Examination:
    """Runs suspects in ever smaller groups.

    To find one request takes one restart for each halving. There may be as many as to find all that were found, at most
    `MOST_SEARCHES`, and one more, and `MORE_DEATHS`; as long as no group has ended well, as many as to find one.

    Attributes:
        control: a request that the actor's engine has answered before; None if there is none.
        survived: whether a group has ended well, or the new engine has answered `control`.
        found: number of requests on which the engine has ended.
        steps: number of engines that have started and of groups that were run, which show that the search goes on.
    """

    def __init__(self, start: Callable[[], AsyncEngine], refusals: Refusals, control: Suspect | None = None) -> None:
        """Prepare an examination.

        Args:
            start: starts an engine; it may take long, and is called in a thread.
            refusals: gets the requests that are found.
            control: a request that the actor's engine has answered before, if there is one.
        """
        self.start, self.refusals, self.control = start, refusals, control
        self.survived, self.found, self.steps = False, 0, 0

    @property
    def explained(self) -> bool:
        """Whether it was certain requests on which the engine ended, and not any."""
        return self.survived and self.found > 0

    async def run(self, suspects: Sequence[Suspect], engine: AsyncEngine | None = None) -> AsyncEngine:
        """Examine some requests.

        Args:
            suspects: the requests; without any, an engine is only started.
            engine: an engine that runs and that nothing else uses, if there is one.

        Returns:
            An engine that runs.

        Raises:
            EngineDied: the engine ends again and again; the message says on which requests.
            Exception: what `start` raises.
        """
        engine, groups, deaths = engine or await self._started(), _halves(suspects), 0
        halvings = len(suspects).bit_length()
        while groups:
            group = [suspect for suspect in groups.pop(0) if suspect.request not in self.refusals]
            if self.refusals.tries(group) >= TRIES:
                await self._refuse(group)
            elif group and (cause := await self._death(engine, group)):
                deaths += 1
                with suppress(Exception):  # whatever is left of it
                    await engine.close()
                checked = await self._checked() if len(group) == 1 or deaths == MOST_UNCHECKED else None
                if len(group) == 1:
                    await self._refuse(group)
                halves = _halves(group) if len(group) > 1 else []
                groups = halves + groups if self.survived else groups + halves  # first a group that may end well
                searches = 1 + max(1, min(self.found, MOST_SEARCHES)) if self.survived else 1
                if deaths >= MORE_DEATHS + halvings * searches:
                    raise EngineDied(self._given_up(cause, deaths, group))
                engine = checked or await self._started()
        if suspects:
            await asyncio.to_thread(self.refusals.end)
        return engine

    async def _death(self, engine: AsyncEngine, group: Sequence[Suspect]) -> EngineDied | None:
        """Run some requests; returns why the engine has ended, or None."""
        await asyncio.to_thread(self.refusals.begin, group)
        try:
            self.survived = await _answers(engine, group) or self.survived
        except EngineDied as cause:
            return cause
        finally:
            self.steps += 1
        return None

    async def _checked(self) -> AsyncEngine | None:
        """A new engine that has answered `control`; None if there is none, or it is not needed.

        Raises:
            EngineDied: the engine has ended on it.
        """
        control, self.control = self.control, None  # it is tried once
        if control is None or self.survived:
            return None
        engine, request, sampling = await self._started(), control.request, control.sampling
        try:
            found = (await engine.generate([request], sampling))[0] if sampling else await engine.score([request])
            self.survived = not found[0].refused
        except StorageError as error:
            _log.warning("a request that was answered before cannot be tried: %s", error)
        except EngineDied as cause:
            with suppress(Exception):  # whatever is left of it
                await engine.close()
            raise EngineDied(f"{cause}, also on a request that it had answered before: {about(request)}") from cause
        finally:
            self.steps += 1
        return engine

    def _given_up(self, cause: EngineDied, deaths: int, group: Sequence[Suspect]) -> str:
        """Message for a search in which the engine has ended too often, at last on some requests."""
        seen = (
            f"it ended on {self.found} requests alone, which are refused now"
            if self.survived
            else f"it ended on every group of them, down to {len(group)}, and has answered none of them"
        )
        return (
            f"{cause}, and it was restarted {deaths} times to find the requests that cause it: {seen}; at last it worked on "
            f"a request with {about(group[0].request)}"
        )

    async def _refuse(self, group: Sequence[Suspect]) -> None:
        self.found += 1
        await asyncio.to_thread(self.refusals.add, group[0].request)

    async def _started(self) -> AsyncEngine:
        await asyncio.to_thread(self.refusals.learn)
        engine = await asyncio.to_thread(self.start)
        self.steps += 1
        return engine


async def _answers(engine: AsyncEngine, group: Sequence[Suspect]) -> bool:
    """Let an engine work on some requests; returns whether it has on any.

    If the image of a request cannot be read, the engine drops the other requests of its call. So each gets a call of its own
    then: none is cleared that the engine has not worked on, except those whose image cannot be read. Their calls will say so.
    """
    by_sampling: dict[Sampling | None, list[Request]] = {}
    for suspect in group:
        by_sampling.setdefault(suspect.sampling, []).append(suspect.request)
    try:
        for sampling, requests in by_sampling.items():
            await (engine.generate(requests, sampling) if sampling else engine.score(requests))
    except StorageError:
        return len(group) > 1 and any(await asyncio.gather(*(_answers(engine, [suspect]) for suspect in group)))
    return True


def _halves(suspects: Sequence[Suspect]) -> list[Sequence[Suspect]]:
    """The first and the second half: requests that share an image, and so the cause, follow one another and stay together."""
    middle = len(suspects) // 2
    return [half for half in (suspects[:middle], suspects[middle:]) if half]
