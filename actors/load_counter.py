"""Counts what an engine does, for its load reports."""

import threading
import time

from vlrm_ray.engines import LoadReport


class LoadCounter:
    """Counts the sequences, tokens and busy seconds of an engine; any thread may use it."""

    def __init__(self) -> None:
        """Start with no sequence."""
        self._lock = threading.Lock()
        self._running = self._waiting = self._finished = self._tokens = 0
        self._busy, self._since = 0.0, 0.0

    def count(self, *, running: int = 0, waiting: int = 0, finished: int = 0, tokens: int = 0) -> None:
        """Add to the counts; negative numbers take away."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            elif self._running + running == 0:
                self._busy += time.monotonic() - self._since
            self._running += running
            self._waiting += waiting
            self._finished += finished
            self._tokens += tokens

    def report(self) -> LoadReport:
        """The counts up to now."""
        with self._lock:
            busy = self._busy + (time.monotonic() - self._since if self._running else 0.0)
            return LoadReport(self._running, self._waiting, self._finished, self._tokens, round(busy, 3))
