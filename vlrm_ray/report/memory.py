"""Peak memory of a run on the driver's machine."""

import threading

import psutil


class MemoryWatch:
    """Samples the memory of this process and all its descendants in a background thread.

    Shared pages are counted once (proportional set size) where the system reports them.

    Attributes:
        peak: largest sample in bytes.
    """

    def __init__(self, every: float = 5.0) -> None:
        """Start sampling, once in `every` seconds."""
        self.peak = 0
        self._every, self._stop = every, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Stop sampling; returns the peak in bytes."""
        self._stop.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.peak = max(self.peak, _memory())


def _memory() -> int:
    """Bytes that this process and all its descendants use."""
    driver = psutil.Process()
    total = 0
    for process in (driver, *driver.children(recursive=True)):
        try:
            info = process.memory_full_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:  # the process has ended meanwhile
            continue
    return total
