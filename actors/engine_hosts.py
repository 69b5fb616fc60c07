"""Long-lived Ray actors with one inference engine each: policy generator, critique writer and claim extractor."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from actors.continuous_engine import LoadFailed
from actors.examination import Examination
from actors.serial_engine import AsyncEngine, SerialEngine
from actors.suspects import Refusals, Suspect
from vlrm_ray.engines import (
    ENDED,
    Completion,
    Engine,
    EngineDied,
    EngineSettings,
    Health,
    LoadReport,
    Request,
    Sampling,
)
from vlrm_ray.errors import UserError, last_line
from vlrm_ray.experts.attempts import restarted_actor
from vlrm_ray.reward.canary import canary_request, check_canary
from vlrm_ray.store import garbage_collection
from vlrm_ray.store.filesystem import may_pass
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION, local_model
from vlrm_ray.store.patience import patient_for

T = TypeVar("T")
ENGINE_RESTARTS = 2
"""How often within `RESTART_SECONDS` an actor starts its engine again after the engine's process has ended."""
LOAD_ATTEMPTS = 2
"""How often weights are loaded, each time into a new engine, before the error counts as one of the weights."""
RESTART_SECONDS = 3600.0
"""Time after which a restart is forgotten: a long run outlives an engine that ends now and then."""
START_PAUSES = (5.0, 30.0)
"""Seconds after which an engine's start is tried again, if it fails for a reason that may pass."""
RETRY_SECONDS = 60.0
"""Time since the first attempt after which a start is not tried again. Attempts of up to a minute each have ended after 125 s,
and a longer one is the only one: the driver waits 300 s for an actor (`cluster.start_timeout`), and cannot tell the cause then."""
STORAGE_SECONDS = 200.0
"""How long the first start may wait for a storage in all: the driver waits 300 s, and must learn the cause."""
_log = logging.getLogger(__name__)


class EngineHost:
    """Async actor class that runs one engine. Many calls may be in progress at the same time.

    If the engine cannot start, the constructor does not raise: Ray does not start such an actor again. Errors that may pass
    are waited for. Then `health` returns the error as `Health.problem`.

    If the process of the engine ends, the actor starts a new one with the same weights and repeats the calls that were
    in progress, at most `ENGINE_RESTARTS` times within `RESTART_SECONDS`. Then the calls fail with `EngineDied`, and the actor
    tries to start its engine again every `RESTART_SECONDS`: a GPU or a storage may work again. Before the calls are repeated,
    the requests that the engine worked on are examined (see `actors.examination`). If it ends on some of them only, they are
    refused from then on, and the restart does not count.

    Attributes:
        version: version of the loaded weights; 0 is the initial model.
        problem: why the engine does not run; "" if it does.
        engine: the engine; None if it does not run.
        refusals: the requests that end the engine's process.
    """

    def __init__(self, name: str, settings: EngineSettings, ledger: Ledger | None = None) -> None:
        """Start the engine.

        Args:
            name: name of the actor.
            settings: settings of the engine.
            ledger: ledger of the run, which keeps the requests that end the engine's process; None to forget them with the actor.
        """
        self.name, self.settings = name, settings
        self.version, self.problem = 0, ""
        self.engine: AsyncEngine | None = None
        self.refusals = Refusals(name, settings, ledger)
        self._model = settings.model
        self._restarts: list[float] = []
        self._repair: asyncio.Task[object] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._examination: Examination | None = None
        self._answered: Suspect | None = None
        self._closed = False
        self._waiting_sequences = 0
        self.refusals.read()
        waited_for = not restarted_actor()
        try:
            with patient_for(STORAGE_SECONDS) if waited_for else nullcontext():
                self._find_weights()
                self.engine = self._started()
        except UserError as error:
            self.problem = str(error)
        except Exception as error:  # engines raise many exception types
            self.problem = f"{self._place()} cannot start its engine: {last_line(error)}"

    def _find_weights(self) -> None:
        """Choose other weights than those of the settings, before the first start."""

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` answers to each request; those to a refused request have only a reason, in `refused`."""
        refused = [Completion("", refused=ENDED)] * sampling.n
        sequences = len(requests) * sampling.n
        groups = await self._answers(
            requests, lambda engine, asked: engine.generate(asked, sampling), refused, sequences
        )
        self._remember(requests, [group[0] for group in groups], sampling)
        return groups

    async def score(self, requests: Sequence[Request]) -> list[Completion]:
        """p(Yes) and p(No) as the next token after each request's prefix; a refused request has a reason."""
        refused = Completion("", refused=ENDED)
        scores = await self._answers(requests, lambda engine, asked: engine.score(asked), refused, len(requests))
        self._remember(requests, scores, None)
        return scores

    async def load(self, model: str, ledger: Ledger | None = None, critique_format: str = "") -> float:
        """Replace the weights by those of another model of the same architecture.

        If the engine does not run, it is started with them once it can be.

        Args:
            model: reference to the model (see `vlrm_ray.store.models`), which is fetched to this node.
            ledger: ledger of the run, for references to its versions.
            critique_format: name of the format that a version was trained with, to check its canary; "" checks none.

        Returns:
            The larger change of the canary's p(Yes) or p(No) that loading caused; 0 without a canary.

        Raises:
            EngineDied: the actor has given up; the next engine that it starts has the new weights.
            WrongWeights: the engine does not reproduce the canary's score.
        """
        folder = await asyncio.to_thread(local_model, model, ledger)
        try:
            return await self._load(folder, _version_of(model), critique_format)
        except EngineDied:
            self._model, self.version = folder, _version_of(model)
            raise

    async def _load(self, folder: str, version: int, critique_format: str) -> float:
        canary, failures = [canary_request(folder, critique_format)] if critique_format else [], 0
        before, is_new = await self.score(canary) if canary else [], version != self.version

        async def load(engine: AsyncEngine) -> None:
            nonlocal failures
            try:
                await engine.load(folder)
            except LoadFailed as error:
                failures += 1
                if failures == LOAD_ATTEMPTS:
                    raise RuntimeError(f"{self._place()}: {error}") from error
                raise

        await self._with_engine(load)
        self._model, self.version = folder, version
        after = await self.score(canary) if canary else []
        for score, old in zip(after, before, strict=True):
            check_canary(score, folder, version, self.settings.dtype, self._place(), old if is_new else None)
        return max((max(abs(a.yes - b.yes), abs(a.no - b.no)) for a, b in zip(after, before, strict=True)), default=0.0)

    async def load_report(self) -> LoadReport:
        """How busy the engine is; answers at once. The steps of a search count as finished: calls that wait for it are not late."""
        if self.engine is None:
            repaired = self._repair is not None and not self._repair.done()
            steps = self._examination.steps if self._examination and repaired else 0
            return LoadReport(waiting=self._waiting_sequences, finished=steps, runs=False, gave_up=not repaired)
        return self.engine.load_report()

    async def health(self) -> Health:
        """State of the engine. Calls return only after the engine has started or failed to."""
        model, memory = Path(self.settings.model).name, psutil.Process().memory_info().rss >> 20
        return Health(self.name, self.version, model, self.problem, memory, os.getpid(), socket.gethostname())

    async def close(self) -> None:
        """Shut the engine down and free its memory, before the actor is killed."""
        engine, self.engine, self.problem, self._closed = self.engine, None, "it was closed", True
        if engine is not None:
            await engine.close()

    async def _answers(
        self,
        requests: Sequence[Request],
        work: Callable[[AsyncEngine, list[Request]], Awaitable[list[T]]],
        refused: T,
        sequences: int,
    ) -> list[T]:
        """The engine's answers to some requests, and `refused` for those on which its process ends."""

        async def answers(engine: AsyncEngine) -> list[T]:
            allowed = [request not in self.refusals for request in requests]
            found = iter(await work(engine, list(compress(requests, allowed))))
            return [next(found) if answered else refused for answered in allowed]

        return await self._with_engine(answers, sequences)

    def _remember(self, requests: Sequence[Request], answers: Sequence[Completion], sampling: Sampling | None) -> None:
        """Remember one of some requests that the engine has answered; see `Examination.control`."""
        answered = (request for request, answer in zip(requests, answers, strict=True) if not answer.refused)
        if (request := next(answered, None)) is not None:
            self._answered = Suspect(request, sampling)

    async def _with_engine(self, work: Callable[[AsyncEngine], Awaitable[T]], sequences: int = 0) -> T:
        """Do some work of so many sequences with the engine, again with a new one if the engine's process ends."""
        while True:
            if (engine := self.engine) is not None and self.refusals.left:
                self._repaired_by(self._go_on_examining(engine))
            while self._repair is not None and not self._repair.done():
                self._waiting_sequences += sequences
                try:
                    await asyncio.shield(self._repair)  # goes on for the other calls if this one is cancelled
                finally:
                    self._waiting_sequences -= sequences
            if (engine := self.engine) is None:
                if not self._closed and (self._recovery is None or self._recovery.done()):
                    self._recovery = asyncio.create_task(self._recover())
                raise EngineDied(f"{self._place()} has no running engine: {self.problem}")
            try:
                return await work(engine)
            except EngineDied as error:
                if self.engine is engine:  # the first call that fails starts the new engine
                    self._repaired_by(self._restart(engine, error))

    def _repaired_by(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Do some work in the background that ends with a running engine, or with a `problem`. Calls wait for it."""
        self.engine, self._repair = None, asyncio.create_task(work)
        return self._repair

    async def _restart(self, dead: AsyncEngine, cause: EngineDied) -> None:
        """Start a new engine, if the actor may."""
        self.problem = str(cause)
        with suppress(Exception):  # whatever is left of it
            await dead.close()
        now = time.monotonic()
        self._restarts = [restart for restart in self._restarts if now - restart < RESTART_SECONDS]
        if len(self._restarts) == ENGINE_RESTARTS:
            self.problem += f", and it was restarted {ENGINE_RESTARTS} times within {RESTART_SECONDS:g} s before"
            return
        self._restarts.append(now)
        suspects = dead.suspects()
        _log.error("%s: %s; starting it again, for the %d requests it worked on", self._place(), cause, len(suspects))
        if await self._examine(suspects):
            self._restarts.remove(now)

    async def _go_on_examining(self, engine: AsyncEngine) -> None:
        """Examine the requests that an earlier process of the actor has left."""
        self.problem = "its engine's process ended before"
        await self._examine(self.refusals.left, engine)

    async def _recover(self) -> None:
        """Try to start the engine after a while, again and again."""
        cause = self.problem
        while self.engine is None and not self._closed:
            await asyncio.sleep(RESTART_SECONDS)
            if not self._closed:
                self.problem = cause
                await self._repaired_by(self._examine([]))

    async def _examine(self, suspects: Sequence[Suspect], engine: AsyncEngine | None = None) -> bool:
        """Examine some requests, then let the calls have the engine; returns whether they explain that the last one ended."""
        self._examination = examination = Examination(self._started, self.refusals, self._answered)
        try:
            self.engine, self.problem = await examination.run(suspects, engine), ""
        except UserError as error:
            self.problem = str(error)
        except Exception as error:  # engines raise many exception types
            self.problem += f", and cannot be started again: {error}"
        return examination.explained

    def _started(self) -> AsyncEngine:
        """A new engine with the weights that were loaded last.

        The start is tried again after an error that may pass, of a storage or of the engine's library, if there is time.
        """
        settings, since = replace(self.settings, model=self._model), time.monotonic()
        for pause in START_PAUSES:
            try:
                return _start_engine(settings)
            except Exception as error:  # engines raise many exception types
                lasts = isinstance(error, UserError) and not may_pass(error, self._model)
                if lasts or time.monotonic() - since > RETRY_SECONDS:
                    raise
                _log.warning("%s tries again in %g s: %s", self._place(), pause, last_line(error))
            time.sleep(pause)
        return _start_engine(settings)

    def _place(self) -> str:
        return f"{self.name} on node {socket.gethostname()}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class PolicyGenerator(EngineHost):
    """Generates the responses that are judged."""


class ClaimExtractorHost(EngineHost):
    """Extracts the claims from responses with a language model."""


class CritiqueWriter(EngineHost):
    """Writes critiques with the reward model, trained or not.

    The constructor looks the version up in the ledger, so an actor that Ray restarts loads the same weights as the others.
    """

    def __init__(self, name: str, settings: EngineSettings, ledger: Ledger, index: int = 0) -> None:
        """Start the engine with the version that `ledger` names for the critic `index`, or with the initial model."""
        self._ledger, self._index = ledger, index
        super().__init__(name, settings, ledger)

    def _find_weights(self) -> None:
        self.version = self._ledger.served_version(self._index)
        if self.version:
            self._model = self._ledger.fetch_version(self.version)


def _version_of(model: str) -> int:
    """Number of the version that a reference names; 0 for any other model."""
    return int(model.removeprefix(VERSION)) if model.startswith(VERSION) else 0


@garbage_collection.loading()
def _start_engine(settings: EngineSettings) -> AsyncEngine:
    """Start an engine. Its library is imported here, so that an actor imports only the one it uses."""
    if settings.kind == "vllm" and not settings.reproducible:
        from actors.continuous_engine import ContinuousEngine
        from actors.vllm_async_engine import AsyncVllm

        return ContinuousEngine(AsyncVllm(settings), settings.max_num_seqs)
    return SerialEngine(partial(start_serial, settings))


@garbage_collection.loading()
def start_serial(settings: EngineSettings) -> Engine:
    """Start an engine that answers one batch at a time, in this process."""
    if settings.kind == "vllm":
        from actors.vllm_engine import VllmEngine

        return VllmEngine(settings)
    from vlrm_ray.reward.transformers_engine import TransformersEngine

    return TransformersEngine(settings)
