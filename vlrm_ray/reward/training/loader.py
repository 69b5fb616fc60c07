"""Prepares micro-batches in background threads, ahead of the training step that needs them.

The threads are daemons, which `concurrent.futures` has not: a process ends even if one of them is stuck in a read.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from vlrm_ray.errors import StorageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class BackgroundLoader(Generic[Item, Result]):
    """Applies a function to items in threads, some items ahead of the consumer, and yields the results in order.

    Attributes:
        waited: seconds that the consumer has waited for results.
    """

    def __init__(self, function: Callable[[Item], Result], workers: int, timeout: float, ahead: int = 1) -> None:
        """Prepare a loader.

        Args:
            function: called in the threads.
            workers: number of threads.
            timeout: most seconds to wait for a result.
            ahead: results that may be ready for the consumer while each thread works on another.
        """
        self.function, self.workers, self.timeout, self.ahead = function, workers, timeout, ahead
        self.waited = 0.0

    def __call__(self, items: Sequence[Item]) -> Iterator[Result]:
        """The results of all items; an exception of the function is raised where its result was due.

        Raises:
            StorageError: a result is not ready in time. A read may be stuck on one node only: another attempt may help.
        """
        tasks: SimpleQueue[tuple[Item, Future[Result]] | None] = SimpleQueue()
        for number in range(self.workers):
            Thread(target=self._work, args=(tasks,), name=f"loader-{number}", daemon=True).start()
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(Future())
                tasks.put((item, pending[-1]))
                if len(pending) > self.workers + self.ahead:
                    yield self._next(pending)
            while pending:
                yield self._next(pending)
        finally:
            for future in pending:
                future.cancel()
            for _ in range(self.workers):
                tasks.put(None)

    def _work(self, tasks: "SimpleQueue[tuple[Item, Future[Result]] | None]") -> None:
        """Do tasks until there is a None."""
        while (task := tasks.get()) is not None:
            item, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self.function(item))
            except BaseException as error:  # raised where the result is due
                future.set_exception(error)

    def _next(self, pending: "deque[Future[Result]]") -> Result:
        start = time.perf_counter()
        future = pending.popleft()
        finished = wait([future], self.timeout).done
        self.waited += time.perf_counter() - start
        if not finished:
            raise StorageError(
                f"the images and texts of a training step were not ready within train.step_timeout={self.timeout:g} s; "
                "look at the storage of the images, or raise train.loader_workers"
            )
        return future.result()
