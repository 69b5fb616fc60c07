"""Progress that a person can follow: what runs, how far it is, how fast, and how long it still takes."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

SILENCE = 10.0
"""Seconds after which a line is printed even if nothing has changed."""


@dataclass
class _Stage:
    name: str
    unit: str
    total: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0


class Progress:
    """One line per event, and one at least every `SILENCE` seconds; a live line on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal
        if not self.live:
            self.console.width = 160  # a log or a pipe has no width of its own
        self.began = time.monotonic()
        self._lock = threading.Lock()

    def log(self, text: str) -> None:
        """Print one line with the time since the start."""
        passed = int(time.monotonic() - self.began)
        with self._lock:
            self.console.print(f"[{passed // 60:02d}:{passed % 60:02d}] {text}", markup=False)
            sys.stdout.flush()

    @contextmanager
    def stage(
        self, name: str, total: int = 0, unit: str = "", live_counts: Callable[[], Mapping[str, int]] | None = None
    ) -> Iterator["Meter"]:
        """Report a stage while it runs; `live_counts` gives counts to show with it. Ends with its seconds."""
        meter = Meter(self, _Stage(name, unit, total), live_counts)
        stop = threading.Event()
        ticker = threading.Thread(target=meter.tick, args=(stop,), daemon=True)
        self.log(f"{name} ...")
        ticker.start()
        try:
            yield meter
        finally:
            stop.set()
            ticker.join()
        self.log(f"{name}: done in {time.monotonic() - meter.stage.began:.1f} s{meter.outcome}")

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table."""
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        with self._lock:
            self.console.print(table)


class Meter:
    """Counts what a stage has done."""

    def __init__(self, progress: Progress, stage: _Stage, live_counts: Callable[[], Mapping[str, int]] | None) -> None:
        self.progress, self.stage, self.live_counts = progress, stage, live_counts
        self.outcome = ""
        self.seconds = 0.0

    def add(self, count: int) -> None:
        """Count rows done."""
        self.stage.done += count

    def close(self, outcome: str) -> None:
        """Words to end the stage's last line with."""
        self.outcome = f", {outcome}"

    def tick(self, stop: threading.Event) -> None:
        """Say where the stage is, until told to stop."""
        while not stop.wait(1.0 if self.progress.live else SILENCE):
            line = self._line()
            if self.progress.live:
                self.progress.console.print(line, end="\r", markup=False, overflow="ellipsis", no_wrap=True)
            else:
                self.progress.log(line)

    def _line(self) -> str:
        stage, passed = self.stage, time.monotonic() - self.stage.began
        parts = [f"{stage.name}: {passed:.0f} s"]
        if stage.total:
            parts.append(f"{stage.done} of {stage.total} {stage.unit}".strip())
        if stage.done and stage.total:
            rate = stage.done / passed
            parts.append(f"{rate:.1f}/s, about {(stage.total - stage.done) / rate:.0f} s left")
        counts = self.live_counts() if self.live_counts else {}
        parts += [f"{name} {count}" for name, count in counts.items()]
        return "  " + ", ".join(parts)
