"""Work in the background of the driver, in threads that do not outlive it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Task(Generic[T]):
    """Some work that has started, whose result or error is asked for later."""

    def __init__(self, work: Callable[[], T], name: str) -> None:
        """Start the work in a thread with a name."""
        self._work, self._future = work, Future[T]()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work has ended, well or not; at most some seconds, if given."""
        self._thread.join(seconds)

    def result(self) -> T:
        """Wait for the work; returns what it returned, or raises what it raised."""
        return self._future.result()

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:  # for `result`
            self._future.set_exception(error)


@contextmanager
def repeated(work: Callable[[], None], seconds: float) -> Iterator[None]:
    """Context manager: call a function in a thread at an interval, and once more at the end, when the thread has ended."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            work()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        work()
