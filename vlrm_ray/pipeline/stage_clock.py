"""How long the stages of a round take, and what they cost."""

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from vlrm_ray.pipeline.background import repeated

SAMPLE_SECONDS = 1.0
"""Interval at which the CPU time of processes is read: what a process uses after the last reading before its end is lost."""
NODE_PROCESS = "raylet"
"""Name of the process that starts the workers of a node."""


@dataclass(frozen=True)
class Start:
    """When a stage began: on the monotonic clock, and in CPU seconds."""

    seconds: float
    cpu_seconds: float


class StageClock:
    """Times of stages, and the CPU seconds of this process and its descendants during them.

    With an own Ray cluster all processes of the run are descendants of the driver. On a cluster that was there before they
    are not, and no CPU seconds are told.
    """

    def __init__(self) -> None:
        """Start to read the CPU time of processes in the background."""
        self._by_process: dict[tuple[int, float], float] = {}
        self._lock, self._with_node = threading.Lock(), False
        self._reading = ExitStack()
        self._reading.enter_context(repeated(self._read, SAMPLE_SECONDS, "reading CPU times"))

    def start(self) -> Start:
        """The start of a stage, now."""
        return Start(time.monotonic(), self._cpu_seconds())

    def times(self, start: Start) -> dict[str, Any]:
        """Times of a stage that ends now: its seconds, start and end in Unix time, and if they can be told `cpu_seconds`."""
        seconds, end = time.monotonic() - start.seconds, time.time()
        spent = round(self._cpu_seconds() - start.cpu_seconds, 1)
        cost = {"cpu_seconds": spent} if self._with_node else {}
        return {"seconds": seconds, "began": end - seconds, "ended": end, **cost}

    def close(self) -> None:
        """Stop reading."""
        self._reading.close()

    def _cpu_seconds(self) -> float:
        """CPU seconds so far, those of ended processes included."""
        self._read()
        with self._lock:
            return sum(self._by_process.values())

    def _read(self) -> None:
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.Error), self._lock:  # it may have ended meanwhile
                self._with_node = self._with_node or process.name() == NODE_PROCESS
                times = process.cpu_times()
                self._by_process[process.pid, process.create_time()] = times.user + times.system
