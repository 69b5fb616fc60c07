"""Progress output for the terminal or a log: running stage, rows done, rate and estimated time left."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

REPORT_INTERVAL, LATER_INTERVAL = 10.0, 60.0
"""Seconds between two progress lines of a running stage in a log, at first and later; a terminal is updated every second."""
LATER_SECONDS = 600
"""Seconds after which a stage counts as a long one, whose progress lines would fill a log."""


class Progress:
    """Prints one line per event, and the state of the running stage every `REPORT_INTERVAL` seconds, later `LATER_INTERVAL`.

    On a terminal the state is a live line that is updated every second, and lines begin with the time since the start. In a
    log they begin with the time of day in UTC, by which they can be compared with other logs.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal
        if not self.live:
            self.console.width = 160  # logs and pipes have no width
        self.start = time.monotonic()
        self._lock = threading.Lock()

    def log(self, text: str) -> None:
        """Print one line with its time."""
        elapsed = int(time.monotonic() - self.start)
        since = f"[{elapsed // 60:02d}:{elapsed % 60:02d}]"
        when = since if self.live else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with self._lock:
            self.console.print(f"{when} {text}", markup=False)
            sys.stdout.flush()

    @contextmanager
    def stage(
        self,
        name: str,
        total: int = 0,
        unit: str = "",
        live_counts: Callable[[], Mapping[str, int]] | None = None,
        already: int = 0,
    ) -> Iterator["Meter"]:
        """Context manager: report a stage while it runs, and its duration at the end.

        Args:
            name: name of the stage.
            total: number of items to do, for the rate and the time left; 0 if unknown.
            unit: what the items are, such as "prompts".
            live_counts: returns further counts to show in each progress line.
            already: items that an earlier session has done, which do not count for the rate.

        Yields:
            The stage's `Meter`.
        """
        meter = Meter(self, name, total, unit, live_counts, already)
        stop = threading.Event()
        ticker = threading.Thread(target=meter.tick, args=(stop,), daemon=True)
        self.log(f"{name} ...")
        ticker.start()
        try:
            yield meter
        finally:
            stop.set()
            ticker.join()
        self.log(f"{name}: done in {time.monotonic() - meter.start:.1f} s{meter.summary}")

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table with the first column left-aligned, the others right-aligned."""
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        with self._lock:
            self.console.print(table)


class Meter:
    """Counts the items that a stage has done. The arguments are those of `Progress.stage`."""

    def __init__(
        self,
        progress: Progress,
        name: str,
        total: int,
        unit: str,
        live_counts: Callable[[], Mapping[str, int]] | None,
        already: int = 0,
    ) -> None:
        self.progress, self.name, self.total, self.unit, self.live_counts = progress, name, total, unit, live_counts
        self.start, self.done, self.summary, self.state = time.monotonic(), already, "", ""
        # when the first items were done, and how many then: the rate is measured from then on, without the time of the start
        self.first: tuple[float, int] | None = None

    def add(self, count: int) -> None:
        """Add to the number of items done."""
        self.done += count
        if count and self.first is None:
            self.first = time.monotonic(), self.done

    def set_state(self, state: str) -> None:
        """Set a text that each progress line shows from now on."""
        self.state = state

    def set_summary(self, summary: str) -> None:
        """Set the text that ends the stage's last line."""
        self.summary = f", {summary}"

    def tick(self, stop: threading.Event) -> None:
        """Print the stage's state at regular intervals until `stop` is set; runs in a thread."""
        while not stop.wait(1.0 if self.progress.live else self._interval()):
            line = self._line()
            if self.progress.live:
                self.progress.console.print(line, end="\r", markup=False, overflow="ellipsis", no_wrap=True)
            else:
                self.progress.log(line)

    def _interval(self) -> float:
        """Seconds until the next line of a log."""
        return REPORT_INTERVAL if time.monotonic() - self.start < LATER_SECONDS else LATER_INTERVAL

    def _line(self) -> str:
        parts = [f"{self.name}: {time.monotonic() - self.start:.0f} s"]
        if self.total:
            items = f"{self.total} {self.unit}".strip()
            parts.append(f"{self.done} of {items}" if self.done else f"none of {items} finished yet")
        since, count = self.first or (0.0, self.done)
        if self.total and self.done > count:
            rate = (self.done - count) / max(1e-3, time.monotonic() - since)
            parts.append(f"{rate:.1f}/s, about {(self.total - self.done) / rate:.0f} s left")
        if self.state:
            parts.append(self.state)
        counts = self.live_counts() if self.live_counts else {}
        parts += [f"{name} {count}" for name, count in counts.items()]
        return "  " + ", ".join(parts)
