"""Work in the background of the driver, in threads that do not outlive it."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

from vlrm_ray.errors import first_line

END_SECONDS = 20.0
"""Time that repeated work gets to end: less than the 60 s after which `ray job stop` kills a driver."""
_LOG = logging.getLogger(__name__)

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
def repeated(work: Callable[[], None], seconds: float, name: str) -> Iterator[None]:
    """Context manager: call a function in a thread at an interval, and once more at the end.

    What the function raises is logged, the first time for each kind of error, and it is called again: what only watches a run
    must not end it. The end of the block waits for the last call at most `END_SECONDS`, so that an interrupted run ends soon.

    Args:
        work: the function.
        seconds: the interval.
        name: what the function does, for the log, such as "sampling the engines".
    """
    stop, given_up, logged = threading.Event(), threading.Event(), set[type[Exception]]()

    def attempt() -> None:
        try:
            work()
        except Exception as error:
            if type(error) not in logged:
                logged.add(type(error))
                _LOG.warning("%s has failed and is tried again: %s: %s", name, type(error).__name__, first_line(error))

    def loop() -> None:
        while not stop.wait(seconds):
            attempt()
        if not given_up.is_set():
            attempt()

    thread = threading.Thread(target=loop, daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(END_SECONDS)
        given_up.set()
