"""Long-lived Ray actors with one inference engine each: policy generator, critique writer and claim extractor."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from actors.serial_engine import AsyncEngine, SerialEngine
from vlrm_ray.engines import (
    Completion,
    Engine,
    EngineDied,
    EngineSettings,
    Health,
    LoadReport,
    Request,
    Sampling,
)
from vlrm_ray.errors import UserError
from vlrm_ray.reward.canary import canary_request, check_canary
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION, local_model

T = TypeVar("T")
ENGINE_RESTARTS = 2
"""How often within `RESTART_SECONDS` an actor starts its engine again after the engine's process has ended."""
RESTART_SECONDS = 3600.0
"""Time after which a restart is forgotten: a long run outlives an engine that ends now and then."""
_log = logging.getLogger(__name__)


class EngineHost:
    """Async actor class that runs one engine. Many calls may be in progress at the same time.

    If the engine cannot start because of a `UserError`, the constructor does not raise, because Ray would restart the
    actor again and again. `health` then returns the error as `Health.problem`.

    If the process of the engine ends, the actor starts a new one with the same weights and repeats the calls that were
    in progress, at most `ENGINE_RESTARTS` times within `RESTART_SECONDS`. Then the calls fail with `EngineDied`.

    Attributes:
        version: version of the loaded weights; 0 is the initial model.
        problem: why the engine does not run; "" if it does.
        engine: the engine; None if it does not run.
    """

    def __init__(self, name: str, settings: EngineSettings) -> None:
        """Start the engine.

        Args:
            name: name of the actor.
            settings: settings of the engine.
        """
        self._prepare(name, settings)
        self._start()

    def _prepare(self, name: str, settings: EngineSettings) -> None:
        self.name, self.settings = name, settings
        self.version, self.problem = 0, ""
        self.engine: AsyncEngine | None = None
        self._model = settings.model
        self._restarts: list[float] = []
        self._restarting = asyncio.Lock()

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` answers to each request; those to a refused request have only a reason, in `refused`."""
        return await self._with_engine(lambda engine: engine.generate(requests, sampling))

    async def score(self, requests: Sequence[Request]) -> list[Completion]:
        """p(Yes) and p(No) as the next token after each request's prefix; a refused request has a reason."""
        return await self._with_engine(lambda engine: engine.score(requests))

    async def load(self, model: str, ledger: Ledger | None = None, critique_format: str = "") -> float:
        """Replace the weights by those of another model of the same architecture.

        Args:
            model: reference to the model (see `vlrm_ray.store.models`), which is fetched to this node.
            ledger: ledger of the run, for references to its versions.
            critique_format: name of the format that a version was trained with, to check its canary; "" checks none.

        Returns:
            The larger change of the canary's p(Yes) or p(No) that loading caused; 0 without a canary.

        Raises:
            WrongWeights: the engine does not reproduce the canary's score.
        """
        folder = await asyncio.to_thread(local_model, model, ledger)
        canary = [canary_request(folder, critique_format)] if critique_format else []
        before = await self.score(canary) if canary else []
        await self._with_engine(lambda engine: engine.load(folder))
        self._model, self.version = folder, _version_of(model)
        after = await self.score(canary) if canary else []
        for score in after:
            check_canary(score, folder, self.version, self.settings.dtype, self._place())
        return max((max(abs(a.yes - b.yes), abs(a.no - b.no)) for a, b in zip(after, before, strict=True)), default=0.0)

    async def load_report(self) -> LoadReport:
        """How busy the engine is; answers at once."""
        return self.engine.load_report() if self.engine is not None else LoadReport()

    async def health(self) -> Health:
        """State of the engine. Calls return only after the engine has started or failed to."""
        model, memory = Path(self.settings.model).name, psutil.Process().memory_info().rss >> 20
        return Health(self.name, self.version, model, self.problem, memory, os.getpid(), socket.gethostname())

    async def close(self) -> None:
        """Shut the engine down and free its memory, before the actor is killed."""
        engine, self.engine, self.problem = self.engine, None, "it was closed"
        if engine is not None:
            await engine.close()

    async def _with_engine(self, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
        """Do some work with the engine, again with a new one if the engine's process ends."""
        while True:
            if self.engine is None:
                async with self._restarting:  # until a restart that is in progress has ended
                    pass
            if (engine := self.engine) is None:
                raise EngineDied(f"{self._place()} has no running engine: {self.problem}")
            try:
                return await work(engine)
            except EngineDied as error:
                async with self._restarting:
                    if self.engine is engine:  # the first call that fails starts the new engine
                        await self._restart(engine, error)

    async def _restart(self, dead: AsyncEngine, cause: EngineDied) -> None:
        """Start a new engine, if the actor may."""
        self.engine, self.problem = None, str(cause)
        with suppress(Exception):  # whatever is left of it
            await dead.close()
        now = time.monotonic()
        self._restarts = [restart for restart in self._restarts if now - restart < RESTART_SECONDS]
        if len(self._restarts) == ENGINE_RESTARTS:
            self.problem += f", and it was restarted {ENGINE_RESTARTS} times within {RESTART_SECONDS:g} s before"
            return
        self._restarts.append(now)
        _log.error("%s: %s; starting it again", self._place(), cause)
        try:
            await asyncio.to_thread(self._start)
        except Exception as error:  # engines raise many exception types
            self.problem += f", and cannot be started again: {error}"

    def _start(self) -> None:
        """Start the engine with the weights that were loaded last."""
        try:
            self.engine, self.problem = _start_engine(replace(self.settings, model=self._model)), ""
        except UserError as error:
            self.problem = str(error)

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
        self._prepare(name, settings)
        self.version = ledger.served_version(index)
        if self.version:
            self._model = ledger.fetch_version(self.version)
        self._start()


def _version_of(model: str) -> int:
    """Number of the version that a reference names; 0 for any other model."""
    return int(model.removeprefix(VERSION)) if model.startswith(VERSION) else 0


def _start_engine(settings: EngineSettings) -> AsyncEngine:
    """Start an engine. Its library is imported here, so that an actor imports only the one it uses."""
    if settings.kind == "vllm" and not settings.reproducible:
        from actors.continuous_engine import ContinuousEngine
        from actors.vllm_async_engine import AsyncVllm

        return ContinuousEngine(AsyncVllm(settings), settings.max_num_seqs)
    return SerialEngine(partial(_start_serial, settings))


def _start_serial(settings: EngineSettings) -> Engine:
    if settings.kind == "vllm":
        from actors.vllm_engine import VllmEngine

        return VllmEngine(settings)
    from vlrm_ray.reward.transformers_engine import TransformersEngine

    return TransformersEngine(settings)
