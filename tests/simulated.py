"""Engines that answer after a fixed time, and experts that know two objects: for measuring the stream without models."""

import asyncio
import os
import random
import socket
import time
from collections.abc import Sequence
from functools import cache

import pyarrow as pa

from actors.load_counter import LoadCounter
from vlrm_ray.config import Detector, Reader
from vlrm_ray.engines import Completion, Health, LoadReport, Request, Sampling
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION
from vlrm_ray.store.rows import from_table, with_columns
from vlrm_ray.types import Detection, Quality

SENTENCES = (
    "There is a red circle.", "There is a blue square.", "There is a green circle.", "The circle is red.", "The square is red.",
    "There is one circle.", "There are two squares.", "There is no star.", "The circle is left of the square.", "I see two shapes.",
    "The square is above the circle.", "There is a yellow star.",
)  # fmt: skip
WORDS = 60
"""Words of a response."""
RESPONSES, YES_STEPS = 1999, 101
"""Number of different responses, and of different rewards."""
OBJECTS = (Detection("circle", (4, 4, 20, 20), 0.99, "red"), Detection("square", (40, 4, 60, 20), 0.99, "blue"))


class SimulatedEngine:
    """Stands for an `EngineHost`: each sequence occupies one of a fixed number of slots for a fixed time per token."""

    def __init__(
        self,
        slots: int,
        seconds: float,
        *,
        critic: bool = False,
        long_share: float = 0.0,
        words: int = WORDS,
        version: int = 0,
        name: str = "simulated",
    ) -> None:
        """Start an engine.

        Args:
            slots: sequences that are decoded at the same time.
            seconds: time that a sequence takes.
            critic: whether the answers are critiques.
            long_share: share of the requests that take ten times as long.
            words: fewest words of a response; short ones are right more often.
            version: version that a critic holds.
            name: name of the actor.
        """
        self.slots, self.seconds = asyncio.Semaphore(slots), seconds
        self.critic, self.long_share, self.words, self.name = critic, long_share, words, name
        self.load_counter, self.version = LoadCounter(), version
        self.events: list[tuple[float, int]] = []

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `EngineHost.generate`."""
        groups = [[self._sequence(request, i, sampling) for i in range(sampling.n)] for request in requests]
        return [list(group) for group in await asyncio.gather(*(asyncio.gather(*group) for group in groups))]

    async def load_report(self) -> LoadReport:
        """See `EngineHost.load_report`."""
        return self.load_counter.report()

    async def load(self, model: str, _ledger: Ledger | None = None, _critique_format: str = "") -> float:
        """See `EngineHost.load`. The rewards of critiques depend on the version."""
        self.version = int(model.removeprefix(VERSION)) if model.startswith(VERSION) else 0
        return 0.0

    async def health(self) -> Health:
        """See `EngineHost.health`."""
        return Health(self.name, self.version, "simulated", "", 0, os.getpid(), socket.gethostname())

    async def close(self) -> None:
        """See `EngineHost.close`."""

    async def take(self, seconds: float) -> None:
        """Change the time that a sequence takes."""
        self.seconds = seconds

    async def history(self) -> list[tuple[float, int]]:
        """Changes of the number of busy slots, each with its time."""
        return self.events

    async def _sequence(self, request: Request, index: int, sampling: Sampling) -> Completion:
        self.load_counter.count(waiting=1)
        async with self.slots:
            self.load_counter.count(running=1, waiting=-1)
            self.events.append((time.time(), 1))
            if self.seconds:
                slow = self.long_share and random.Random(request.seed).random() < self.long_share
                await asyncio.sleep(self.seconds * (10 if slow else 1))
            self.events.append((time.time(), -1))
            self.load_counter.count(running=-1, tokens=sampling.max_tokens)
        if self.critic:
            yes = (request.seed + index + 7 * self.version) % YES_STEPS / YES_STEPS
            return Completion(format_critique("red circle top left", "It is so.", yes > 0.5), yes, 1 - yes)
        return Completion(_responses(self.words)[(request.seed + index) % RESPONSES])


@cache
def _responses(words: int) -> list[str]:
    """The responses that engines choose from, so that they need next to no CPU time."""
    rng = random.Random(0)
    return [response(rng, words) for _ in range(RESPONSES)]


def response(rng: random.Random, words: int = WORDS) -> str:
    """A response of at least some words."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < words:
        sentences.append(rng.choice(SENTENCES))
    return " ".join(sentences)


class SimulatedDetector:
    """Stands for `DetectorExpert`: every image shows a red circle and a blue square.

    Attributes:
        part_seconds: time that a part takes.
    """

    part_seconds = 0.0

    def __init__(self, _settings: Detector, _store: Ledger, _board: object) -> None: ...

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the detections."""
        time.sleep(self.part_seconds)
        rows = from_table(table, [])
        for row in rows:
            row.width, row.height, row.objects, row.quality = 64, 64, OBJECTS, Quality()
        return with_columns(table, rows, "width", "height", "objects", "faint", "quality")


class SimulatedReader:
    """Stands for `TextExpert`: no image shows any text."""

    def __init__(self, _settings: Reader, _store: Ledger, _board: object) -> None: ...

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in no words."""
        return with_columns(table, from_table(table, []), "words")


def verifier() -> Verifier:
    """A verifier that trusts `SimulatedDetector`."""
    return Verifier(Calibrations(exhaustive=frozenset({"circle", "square", "triangle", "star", "sign"})))
