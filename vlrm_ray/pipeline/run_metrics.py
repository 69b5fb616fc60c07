"""`metrics.jsonl`: what a run did over time, one JSON object per line, beside `report.json`.

    {"time": 1764190000.0, "round": 1, "rows": {"generate": 480, ...}, "rates": {"generate": 12.5, ...},
     "engines": {"policy-0": {"running": 64, "waiting": 128, ...}, ...}}

`rows` are finished rows of the round's stages and cache hits since its start, `rates` rows per second since the line
before, and `engines` the sequences that each engine works on and that wait for it. While a round trains, there is a
line for each step; see training_steps.py.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from vlrm_ray.errors import StorageError
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.store.ledger import Ledger

FILE = "metrics.jsonl"
SAMPLE_SECONDS = 10.0
"""Interval between two lines."""
WRITE_SECONDS = 60.0
"""Shortest interval at which the file is written. It is written as a whole, because an object store cannot append."""
BYTES_PER_SECOND = 1e5
"""A long file is written so seldom that no more are written on average."""


class RunMetrics:
    """Samples a run's counters in a thread, and writes them to its ledger."""

    def __init__(self, ledger: Ledger, listener: Callable[[Mapping[str, Any]], None] = lambda _: None) -> None:
        """Continue the file of earlier sessions, if there is one. The `listener` gets each new line."""
        self.ledger, self.listener = ledger, listener
        self.lines = (ledger.get(FILE) or b"").decode("utf-8", "replace").splitlines()
        self.written, self.interval = time.monotonic(), WRITE_SECONDS
        self._lock = threading.Lock()  # a training and work on the next round add lines at the same time

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line, and write the file if it has not been written for a while."""
        self.lines.append(json.dumps(line))
        self.listener(line)
        if time.monotonic() - self.written >= self.interval:
            self.write()

    def write(self) -> None:
        """Write the file. If that fails, the next attempt writes its lines too: a run must not end for them."""
        with self._lock, suppress(StorageError):
            content = "".join(f"{line}\n" for line in self.lines).encode()
            self.written, self.interval = time.monotonic(), max(WRITE_SECONDS, len(content) / BYTES_PER_SECOND)
            self.ledger.put(FILE, content)

    def read(self) -> list[dict[str, Any]]:
        """All lines, also those of earlier sessions; lines that are not JSON objects are left out."""
        found = []
        for line in self.lines:
            with suppress(ValueError):
                found.append(json.loads(line))
        return [content for content in found if isinstance(content, dict)]

    @contextmanager
    def sampled(
        self, round_: int, rows: Callable[[], Mapping[str, int]], engines: Callable[[], Mapping[str, Mapping[str, int]]]
    ) -> Iterator[None]:
        """Context manager: write a line every `SAMPLE_SECONDS`, and one at the end.

        Args:
            round_: number of the round.
            rows: returns the finished rows of each stage.
            engines: returns the running and waiting sequences of each engine.
        """
        sampler = _Sampler(round_, rows, engines)
        try:
            with repeated(lambda: self.add(sampler.sample()), SAMPLE_SECONDS):
                yield
        finally:
            self.write()


class _Sampler:
    def __init__(
        self, round_: int, rows: Callable[[], Mapping[str, int]], engines: Callable[[], Mapping[str, Mapping[str, int]]]
    ) -> None:
        self.round, self.rows, self.engines = round_, rows, engines
        self.before: Mapping[str, int] = {}
        self.at = time.time()

    def sample(self) -> dict[str, Any]:
        now, rows = time.time(), dict(self.rows())
        seconds = max(1e-3, now - self.at)
        rates = {stage: round((count - self.before.get(stage, 0)) / seconds, 3) for stage, count in rows.items()}
        self.before, self.at = rows, now
        engines = {name: dict(load) for name, load in self.engines().items()}
        return {"time": round(now, 1), "round": self.round, "rows": rows, "rates": rates, "engines": engines}
