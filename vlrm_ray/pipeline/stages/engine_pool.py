"""Calls of the engine actors by the stages that wait for them."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayError

from vlrm_ray.config import Config
from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import ENDED, TOO_LONG, Completion, EngineDied, Request, Sampling, batches
from vlrm_ray.errors import UserError, last_line, user_message
from vlrm_ray.pipeline.engine_calls import (
    REPORT_SECONDS,
    REPORT_TIMEOUT,
    ActorDied,
    ActorLost,
    EngineLate,
    LeastLoaded,
    call,
)
from vlrm_ray.pipeline.refusals import REST_SECONDS, SickEngines, about
from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors

REQUESTS_PER_CALL = 8
"""Requests in one call of an engine, which a call's cost is shared by. A part waits for all of its requests in any case."""
QUEUE = 3
"""Unfinished sequences of an engine, as a multiple of what it works on, above which requests are held back. It never waits for
work then, and an engine that starts later finds some."""
MOST_LOSSES = 3
"""Engines that may be lost while they work on a request, before it is the request that is suspected."""
SILENT_SECONDS = 30.0
"""Time without a report of an engine after which its calls are sent to another one: Ray keeps them while it starts again."""
_log = logging.getLogger(__name__)


class _SilentEngine(Exception):
    """An engine has not reported for `SILENT_SECONDS`, and others have."""


class EnginePool:
    """The engine actors of one role, policy or critic.

    Requests are sent in small groups, each to the engine with the fewest sequences. What one engine refuses, another one is
    asked too. An engine that refuses what others answer gets no requests for a while, one whose actor is lost gets none until
    it reports again, one whose actor has given up or that finishes nothing rests, one whose actor is dead for good is left out,
    and what it was working on is sent to others.

    Requests are held back while all engines have several times as many sequences as they can work on, so that engines that
    start later get some too.

    With `engine.reproducible`, all requests of a part are one batch, which always goes to the same engine: a part that is made
    again gives the same answers.

    The number of actors may change if there is a `directory`, which is asked for them from time to time. While it does not
    answer, or knows none, they stay the same.
    """

    def __init__(
        self,
        role: str,
        actors: Mapping[int, ActorHandle[Any]],
        board: ProgressReporter,
        *,
        engine: Engine,
        timeout: float,
        directory: ActorHandle[Any] | None = None,
        others: Collection[int] = (),
    ) -> None:
        """Use some actors.

        Args:
            role: "policy" or "critic"; the actors are called policy-0, policy-1, ...
            actors: handles of `EngineHost` actors by number.
            board: where the time that each actor works is reported.
            engine: settings of the role.
            timeout: seconds without any progress of an engine after which a call of it fails.
            directory: actor that knows the present actors of the role, if their number changes.
            others: numbers of actors of the role that are not used.
        """
        self.role, self.actors, self.others, self.board = role, dict(actors), frozenset(others), board
        self.engine, self.timeout, self.directory = engine, timeout, directory
        self.least_loaded, self._asked = LeastLoaded(max(self.actors, default=-1) + 1), 0.0
        self._sick, self._dead = SickEngines(), dict[int, ActorHandle[Any]]()
        self._line, self._freed = asyncio.Lock(), asyncio.Event()

    @classmethod
    def of(cls, role: str, config: Config, stage_actors: StageActors, indices: Sequence[int] = ()) -> "EnginePool":
        """The engines of a role, "policy" or "critic", or those with some indices."""
        actors, engine = {
            "policy": (stage_actors.policy, config.policy.engine),
            "critic": (stage_actors.critics, config.critic.engine),
        }[role]
        chosen = {index: actors[index] for index in indices or range(len(actors))}
        return cls(
            role,
            chosen,
            stage_actors.board,
            engine=engine,
            timeout=config.cluster.call_timeout,
            directory=stage_actors.directory if engine.most_actors > engine.actors else None,
            others=set(range(len(actors))) - chosen.keys(),
        )

    async def generate(
        self, stage: str, part: int, requests: Sequence[Request], sampling: Sampling
    ) -> list[list[Completion]]:
        """`sampling.n` answers to each request, in order; see `EngineHost.generate`."""
        return await self._answers(stage, part, requests, sampling)

    async def score(self, stage: str, part: int, requests: Sequence[Request]) -> list[Completion]:
        """The probabilities of both judgements for each request, in order; see `EngineHost.score`."""
        return await self._answers(stage, part, requests, None)

    async def _answers(
        self, stage: str, part: int, requests: Sequence[Request], sampling: Sampling | None
    ) -> list[Any]:
        """The answers to requests, or with a `sampling` of None their scores; so in all methods below."""
        if not requests:
            return []
        if self.engine.is_reproducible:
            return await self._of_part(stage, part, requests, sampling)
        groups = batches(requests, REQUESTS_PER_CALL)
        answers = await asyncio.gather(*(self._of_group(stage, group, sampling) for group in groups))
        return [answer for group in answers for answer in group]

    async def _of_part(
        self, stage: str, part: int, requests: Sequence[Request], sampling: Sampling | None
    ) -> list[Any]:
        """The answers to all requests of a part, of its engine.

        An engine in its actor's process ends with it and leaves no suspects, so the error says what it was asked.
        """
        try:
            return await self._call(stage, list(self.actors)[part % len(self.actors)], requests, sampling)
        except (ActorDied, ActorLost) as error:
            raise type(error)(
                f"{error}. If it dies again, look for the cause in the {len(requests)} requests of part {part}, the first of "
                f"them with {about(requests[0])}"
            ) from error

    async def _of_group(self, stage: str, requests: Sequence[Request], sampling: Sampling | None) -> list[Any]:
        """The answers to a group of requests. Those that an engine refuses are sent to another one, if there is one.

        Not those that no engine answers: all have the same limit of tokens, and a request that ends one engine ends others too.
        """
        first, answers = await self._to_least_loaded(stage, requests, sampling)
        refused = [i for i, answer in enumerate(answers) if _refusal(answer) not in ("", TOO_LONG, ENDED)]
        self._sick.refused(first, len(refused))
        others = self._usable() - {first}
        if not refused or not others:
            return answers
        among, again = self._sick.most_trusted(others), [requests[i] for i in refused]
        second, found = await self._to_least_loaded(stage, again, sampling, among)
        answered = {i: answer for i, answer in zip(refused, found, strict=True) if not _refusal(answer)}
        self._sick.refused(second, len(refused) - len(answered))
        if answered:
            self._report(stage, first, second, len(answered), _refusal(answers[min(answered)]))
        return [answered.get(i, answer) for i, answer in enumerate(answers)]

    def _report(self, stage: str, first: int, second: int, count: int, reason: str) -> None:
        """Report that an engine has refused requests which another one has answered."""
        name, other = f"{self.role}-{first}", f"{self.role}-{second}"
        self.board.add(f"{stage} refused by {name} only", count)
        if self._sick.disproved(first):
            _log.warning(
                "%s refuses what %s answers (%s); it gets no requests for %g s", name, other, reason, REST_SECONDS
            )

    def _usable(self) -> set[int]:
        """The engines to choose from: the healthy ones that run and report. If none does, requests wait for all that may."""
        healthy = self.actors.keys() - self._sick.resting() or set(self.actors)
        running = healthy - self.least_loaded.stopped or healthy
        return running - self.least_loaded.away(REPORT_TIMEOUT) or running

    async def _to_least_loaded(
        self, stage: str, requests: Sequence[Request], sampling: Sampling | None, among: Collection[int] = ()
    ) -> tuple[int, list[Any]]:
        """The answers of the least loaded engine, and its number.

        Args:
            stage: name of the stage.
            requests: the requests.
            sampling: how they are answered; None to score them.
            among: the engines to choose from, as long as they are there; empty for all that are healthy.

        Raises:
            UserError: more than `MOST_LOSSES` engines were lost, one after the other, or none is left.
        """
        sequences = len(requests) * (sampling.n if sampling else 1)
        losses, given_up = 0, set[int]()
        while True:
            chosen = set(among) & self._usable() or await self._with_room()
            with self.least_loaded.pick(sequences, chosen) as index:
                actor, alone = self.actors[index], self._usable() == {index}
                try:
                    return index, await self._call(stage, index, requests, sampling, alone=alone)
                except _SilentEngine:
                    continue
                except (ActorLost, ActorDied, EngineDied, EngineLate) as error:
                    if isinstance(error, ActorDied) and await self._ended_on_purpose(index, actor):
                        continue
                    self._lose(index, error)
                    given_up |= set() if isinstance(error, ActorLost) else {index}
                    if self._usable() <= given_up:
                        raise
                    losses += 1
                    if losses > MOST_LOSSES:
                        where = f"the stage {stage}"
                        raise too_many_losses(self.role, where, requests, losses, error) from error
                finally:
                    self._freed.set()

    async def _ended_on_purpose(self, index: int, actor: ActorHandle[Any]) -> bool:
        """Whether an actor that is dead is no longer one of the role, as the directory knows."""
        self._asked = 0.0
        await self._follow_directory()
        return bool(self.actors.get(index) != actor)

    def _lose(self, index: int, error: ActorLost | ActorDied | EngineDied | EngineLate) -> None:
        """Send no requests to an engine: until its actor reports again, for a while if it has given up or hangs, or ever."""
        if isinstance(error, ActorLost):
            self.least_loaded.lose(index)
            return
        if isinstance(error, ActorDied):
            if len(self.actors) > 1:
                self._dead[index] = self.actors.pop(index)
                _log.error("%s-%d gets no more requests: %s", self.role, index, user_message(error))
            return
        if isinstance(error, EngineDied):
            self.least_loaded.stop(index)
        if self._sick.rest(index):
            cause = user_message(error) or last_line(error)
            _log.warning("%s-%d gets no requests for %g s: %s", self.role, index, REST_SECONDS, cause)

    async def _with_room(self) -> set[int]:
        """The engines that more sequences may be sent to, once there are any. Groups wait in the order in which they come."""
        async with self._line:
            while True:
                await self._follow_directory()
                self._update_loads()
                limit = self.engine.max_num_seqs * max(QUEUE, -(-self.engine.most_actors // len(self.actors)))
                if chosen := {index for index in self._usable() if self.least_loaded.load(index) < limit}:
                    return chosen
                self._freed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), REPORT_SECONDS)

    async def _follow_directory(self) -> None:
        """Use the actors that the directory knows, if it has not been asked for a while, or the same if it does not answer."""
        if self.directory is None or time.monotonic() - self._asked < REPORT_SECONDS:
            return
        present = dict[int, ActorHandle[Any]]()
        with suppress(RayError, TimeoutError):  # Ray starts it again
            async with asyncio.timeout(REPORT_TIMEOUT):
                present = await self.directory.engines.remote(self.role)
        self._asked = time.monotonic()
        used = {number: actor for number, actor in present.items() if number not in self.others}
        self.actors = {
            number: actor for number, actor in used.items() if self._dead.get(number) != actor
        } or self.actors
        self.least_loaded.resize(max(self.actors) + 1)

    def _update_loads(self) -> None:
        self.least_loaded.update({index: actor.load_report for index, actor in self.actors.items()})

    async def _call(
        self, stage: str, index: int, requests: Sequence[Request], sampling: Sampling | None, *, alone: bool = True
    ) -> list[Any]:
        """The answers of an engine. Ray repeats the call if the actor is lost; if the engine is not `alone`, others do it."""
        start, name, actor = time.monotonic(), f"{self.role}-{index}", self.actors[index]
        method, arguments = (actor.generate, (sampling,)) if sampling else (actor.score, ())

        def progress() -> float:
            self._update_loads()
            others = self._usable() - self.least_loaded.away(REPORT_TIMEOUT) - {index}
            if index in self.least_loaded.away(SILENT_SECONDS) and others and not self.engine.is_reproducible:
                raise _SilentEngine
            return self.least_loaded.progress.get(index, start)

        answers: list[Any] = await call(
            method if alone else method.options(max_task_retries=0),
            list(requests),
            *arguments,
            timeout=self.timeout,
            name=name,
            waiting_for=f"answers of the stage {stage}",
            progress=progress,
        )
        self.board.add(stage, 0, time.monotonic() - start, name)
        return answers


def too_many_losses(role: str, where: str, requests: Sequence[Request], losses: int, error: Exception) -> UserError:
    """The error for requests with which one engine after the other is lost.

    Args:
        role: role of the engines.
        where: what the requests are part of, as "the stage critique".
        requests: the requests.
        losses: how many engines were lost.
        error: the error of the last one.
    """
    cause = user_message(error) or last_line(error)
    return UserError(
        f"{losses} engines of the {role} were lost one after the other while they worked on the same {len(requests)} "
        f"requests of {where}, the first of them with {about(requests[0])}; look for the cause in these requests. The last engine: {cause}"
    )


def _refusal(answer: Completion | list[Completion]) -> str:
    """Why an engine refused the request of an answer; "" if it did not."""
    return (answer[0] if isinstance(answer, list) else answer).refused
