"""CPU time of the processes of a stream, by what they do."""

import re
import time

import psutil

_STAGE = re.compile(r"MapBatches\((\w+)\)")
OWN, RAY, ENGINES = "driver", "Ray", "engines"
"""Names of this process, of Ray's own processes and idle workers, and of the simulated engines."""


def cpu_seconds() -> dict[tuple[int, str], float]:
    """CPU seconds so far of this process and its descendants, by process id and name of the stage or role."""
    own, seconds = psutil.Process(), {}
    for process in (own, *own.children(recursive=True)):
        try:
            name, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:  # it has ended meanwhile
            continue
        stage = _STAGE.search(name)
        role = stage[1] if stage else ENGINES if "SimulatedEngine" in name else OWN if process.pid == own.pid else RAY
        seconds[process.pid, role] = times.user + times.system
    return seconds


class CpuTime:
    """CPU seconds since a start, of this process and its descendants.

    Call `update` again and again: processes may end meanwhile, and what others need to start is not counted.
    """

    def __init__(self) -> None:
        """Start now."""
        self._first = cpu_seconds()
        self._last = dict(self._first)
        self._at = time.monotonic()

    def update(self) -> None:
        """Look at all processes, unless that was done less than a second ago."""
        if time.monotonic() - self._at >= 1:
            self._at = time.monotonic()
            self._look()

    def _look(self) -> None:
        for key, seconds in cpu_seconds().items():
            self._first.setdefault(key, seconds)
            self._last[key] = seconds

    def by_role(self) -> dict[str, float]:
        """CPU seconds by the name of the stage or role, the largest first."""
        self._look()
        total: dict[str, float] = {}
        for key, seconds in self._last.items():
            total[key[1]] = total.get(key[1], 0.0) + seconds - self._first[key]
        return dict(sorted(total.items(), key=lambda item: -item[1]))
