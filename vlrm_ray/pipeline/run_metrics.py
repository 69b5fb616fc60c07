"""`metrics/` in a run's folder: what a run did over time, one JSON object per line, beside `report.json`.

    runs/<name>/metrics/engines-00000.jsonl   {"time": 1764190000.0, "round": 1, "rows": {"generate": 480, ...},
                                               "rates": {"generate": 12.5, ...},
                                               "engines": {"policy-0": {"running": 64, "waiting": 128, ...}, ...}}
    runs/<name>/metrics/steps-00000.jsonl     a line for each training step; see training_steps.py
    runs/<name>/metrics/nodes-00000.jsonl     a line for each change of the number of nodes; see node_watch.py

`rows` are finished rows of the round's stages and cache hits since its start, `rates` rows per second since the line
before, and `engines` the sequences that each engine works on and that wait for it.

An object store cannot append to a file. So the lines of a kind are a series of files: the last one is written again with each
new line, until it has `FILE_BYTES`. To write costs what is new, and to read costs what is asked for. Runs of older
versions have all lines in one file, `metrics.jsonl`.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from vlrm_ray.errors import StorageError
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.store.ledger import Ledger

FOLDER = "metrics"
OLD_FILE = "metrics.jsonl"
"""All lines of a run of an older version."""
ENGINES, STEPS, NODES = "engines", "steps", "nodes"
"""Kinds of lines."""
FIELDS = {ENGINES: "rows", STEPS: "train", NODES: "nodes"}
"""A field by which a line of each kind is known."""
SAMPLE_SECONDS = 10.0
"""Interval between two lines about the engines."""
WRITE_SECONDS = 30.0
"""Shortest interval at which the lines of a kind are written. So much of them is lost if the driver is killed."""
FILE_BYTES = 256_000
"""A file of this size gets no further lines."""


class RunMetrics:
    """Samples a run's counters in a thread, and writes them to its ledger."""

    def __init__(self, ledger: Ledger, listener: Callable[[Mapping[str, Any]], None] = lambda _: None) -> None:
        """Continue after the files of earlier sessions. The `listener` gets each new line."""
        self.ledger, self.listener = ledger, listener
        self._series = {kind: _Series(ledger, kind) for kind in FIELDS}

    def add(self, kind: str, line: Mapping[str, Any]) -> None:
        """Add a line, which is written once it is due; see `write_due`."""
        self._series[kind].lines.append(json.dumps(line))
        self.listener(line)
        self.write_due()

    def write(self) -> None:
        """Write all new lines. If that fails, the next attempt writes them too: a run must not end for them."""
        for series in self._series.values():
            series.write()

    def write_due(self) -> None:
        """Write the new lines of each kind of which nothing has been written for `WRITE_SECONDS`."""
        for series in self._series.values():
            series.write(at_once=False)

    def read(self, kind: str) -> list[dict[str, Any]]:
        """The lines of a kind, also those of earlier sessions and new ones; those that are not JSON objects are left out."""
        series, field, found = self._series[kind], FIELDS[kind], list[Any]()
        for name in (OLD_FILE, *series.names()):
            found += _parsed((self.ledger.get(name) or b"").splitlines(), field)
        found += _parsed([line.encode() for line in series.lines[series.saved :]], field)
        return [content for content in found if isinstance(content, dict) and field in content]

    @contextmanager
    def sampled(
        self, round_: int, rows: Callable[[], Mapping[str, int]], engines: Callable[[], Mapping[str, Mapping[str, int]]]
    ) -> Iterator[None]:
        """Context manager: add a line every `SAMPLE_SECONDS`, and one at the end.

        Args:
            round_: number of the round.
            rows: returns the finished rows of each stage; {} if they are not known now.
            engines: returns the running and waiting sequences of each engine.
        """
        sampler = _Sampler(round_, rows, engines)
        try:
            with repeated(lambda: self.add(ENGINES, sampler.sample()), SAMPLE_SECONDS, "sampling the engines"):
                yield
        finally:
            self.write()


class _Series:
    """The files of a kind, which a session continues with files of its own."""

    def __init__(self, ledger: Ledger, kind: str) -> None:
        self.ledger, self.kind = ledger, kind
        self.lines, self.saved = list[str](), 0  # lines of the last file, and how many of them are written
        self.number: int | None = None
        self.due, self.lock = time.monotonic() + WRITE_SECONDS, threading.Lock()

    def write(self, *, at_once: bool = True) -> None:
        """Write new lines: now, or only if they are due and no other thread is writing."""
        if (at_once or time.monotonic() >= self.due) and self.lock.acquire(blocking=at_once):
            try:
                with suppress(StorageError):
                    self._write(list(self.lines))
            finally:
                self.lock.release()

    def _write(self, lines: list[str]) -> None:
        if len(lines) == self.saved:
            return
        self.due = time.monotonic() + WRITE_SECONDS
        if self.number is None:
            numbers = (name.rpartition("-")[2].removesuffix(".jsonl") for name in self.names())
            self.number = max((int(number) for number in numbers if number.isdigit()), default=-1) + 1
        content = "".join(f"{line}\n" for line in lines).encode()
        self.ledger.put(f"{FOLDER}/{self.kind}-{self.number:05d}.jsonl", content)
        self.saved = len(lines)
        if len(content) >= FILE_BYTES:
            del self.lines[: self.saved]  # others may have been added meanwhile
            self.number, self.saved = self.number + 1, 0

    def names(self) -> list[str]:
        """Names of the files, in the order in which they were begun."""
        return [f"{FOLDER}/{name}" for name in self.ledger.names(FOLDER, f"{self.kind}-", ".jsonl")]


def _parsed(lines: Iterable[bytes], field: str) -> Iterator[Any]:
    """The lines that hold a field. Others are not parsed: in an old file they are nearly all."""
    for line in lines:
        if f'"{field}"'.encode() in line:
            with suppress(ValueError):
                yield json.loads(line)


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
        rates = {stage: round(self._gained(stage, count) / seconds, 3) for stage, count in rows.items()}
        if rows:
            self.before, self.at = rows, now
        engines = {name: dict(load) for name, load in self.engines().items()}
        return {"time": round(now, 1), "round": self.round, "rows": rows, "rates": rates, "engines": engines}

    def _gained(self, stage: str, count: int) -> int:
        """Rows since the line before; a count that is smaller than before has started again."""
        before = self.before.get(stage, 0)
        return count - before if count >= before else count
