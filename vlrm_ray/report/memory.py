"""How much memory a run takes on the driver's machine."""

import threading

import psutil


class MemoryWatch:
    """Largest memory of this process and all its descendants, shared pages counted once."""

    def __init__(self, every: float = 5.0) -> None:
        self.peak = 0
        self._every, self._stop = every, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End watching; returns the peak in bytes."""
        self._stop.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.peak = max(self.peak, _memory())


def _memory() -> int:
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            info = process.memory_full_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:  # it has just ended
            continue
    return total
