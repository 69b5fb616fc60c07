"""Long-lived actors around one engine each: who responds, and who judges."""

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from vlrm_ray.engines import Completion, Engine, EngineSettings, Health, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.store.ledger import Ledger


class EngineHost:
    """An engine with a name and a version of its weights.

    A problem that the user has to mend does not crash the actor (Ray would start it again): it is
    told by `health`.
    """

    def __init__(self, name: str, settings: EngineSettings) -> None:
        self.name, self.settings = name, settings
        self.version, self.problem = 0, ""
        self.engine: Engine | None = None
        try:
            self.engine = _start(settings)
        except UserError as error:
            self.problem = str(error)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` answers to each request."""
        return self._running().generate(requests, sampling)

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """p(Yes) and p(No) as the next token of each request."""
        return self._running().score(requests)

    def load(self, version: int, folder: str) -> int:
        """Take the weights of a published version in place; returns the version."""
        self._running().load(folder)
        self.version = version
        return version

    def health(self) -> Health:
        """How it is; answers once the engine has started."""
        memory = psutil.Process().memory_info().rss >> 20
        return Health(self.name, self.version, Path(self.settings.model).name, self.problem, memory, os.getpid())

    def close(self) -> None:
        """Free the engine's memory; the actor can then be ended."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def _running(self) -> Engine:
        if self.engine is None:
            raise RuntimeError(f"{self.name} has no engine: {self.problem or 'it was closed'}")
        return self.engine

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class PolicyGenerator(EngineHost):
    """Writes the responses that are judged."""


class ClaimExtractorHost(EngineHost):
    """Finds the claims of responses, where a language model is asked for them."""


class CritiqueWriter(EngineHost):
    """Writes critiques with the newest published reward model.

    A restarted one learns from the ledger which version that is.
    """

    def __init__(self, name: str, settings: EngineSettings, ledger: Ledger) -> None:
        super().__init__(name, settings)
        newest = ledger.newest_version()
        if newest and self.engine is not None:
            self.load(newest, ledger.fetch_version(newest))


def _start(settings: EngineSettings) -> Engine:
    """Import the engine's library here: an actor pays for its own one only."""
    if settings.kind == "vllm":
        from actors.vllm_engine import VllmEngine

        return VllmEngine(settings)
    from actors.transformers_engine import TransformersEngine

    return TransformersEngine(settings)
