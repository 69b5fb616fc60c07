"""Long-lived Ray actors with one inference engine each: policy generator, critique writer and claim extractor."""

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from vlrm_ray.engines import (
    Completion,
    Engine,
    EngineSettings,
    Health,
    Request,
    Sampling,
    generate_isolated,
    score_isolated,
)
from vlrm_ray.errors import UserError
from vlrm_ray.store.ledger import Ledger


class EngineHost:
    """Actor class that runs one engine.

    If the engine cannot start because of a `UserError`, the constructor does not raise, because Ray would restart the
    actor again and again. `health` then returns the error as `Health.problem`.

    Attributes:
        version: version of the loaded weights; 0 is the initial model.
        problem: message of the `UserError`; "" if the engine started.
        engine: the engine; None if it did not start or was closed.
    """

    def __init__(self, name: str, settings: EngineSettings) -> None:
        """Start the engine.

        Args:
            name: name of the actor.
            settings: settings of the engine.
        """
        self.name, self.settings = name, settings
        self.version, self.problem = 0, ""
        self.engine: Engine | None = None
        try:
            self.engine = _start_engine(settings)
        except UserError as error:
            self.problem = str(error)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `vlrm_ray.engines.generate_isolated`."""
        return generate_isolated(self._running_engine(), requests, sampling)

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `vlrm_ray.engines.score_isolated`."""
        return score_isolated(self._running_engine(), requests)

    def load(self, version: int, folder: str) -> int:
        """Replace the weights by those of a published version; returns the version."""
        self._running_engine().load(folder)
        self.version = version
        return version

    def health(self) -> Health:
        """State of the engine. Calls return only after the engine has started or failed to."""
        memory = psutil.Process().memory_info().rss >> 20
        return Health(self.name, self.version, Path(self.settings.model).name, self.problem, memory, os.getpid())

    def close(self) -> None:
        """Shut the engine down and free its memory, before the actor is killed."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def _running_engine(self) -> Engine:
        if self.engine is None:
            raise RuntimeError(f"{self.name} has no running engine: {self.problem or 'it was closed'}")
        return self.engine

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class PolicyGenerator(EngineHost):
    """Generates the responses that are judged."""


class ClaimExtractorHost(EngineHost):
    """Extracts the claims from responses with a language model."""


class CritiqueWriter(EngineHost):
    """Writes critiques with the latest published reward model.

    The constructor looks the version up in the ledger, so an actor that Ray restarts loads the latest weights too.
    """

    def __init__(self, name: str, settings: EngineSettings, ledger: Ledger) -> None:
        """Start the engine and load the latest version published in `ledger`, if there is one."""
        super().__init__(name, settings)
        newest = ledger.newest_version()
        if newest and self.engine is not None:
            self.load(newest, ledger.fetch_version(newest))


def _start_engine(settings: EngineSettings) -> Engine:
    """Start an engine. Its library is imported here, so that an actor imports only the one it uses."""
    if settings.kind == "vllm":
        from actors.vllm_engine import VllmEngine

        return VllmEngine(settings)
    from actors.transformers_engine import TransformersEngine

    return TransformersEngine(settings)
