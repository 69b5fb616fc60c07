"""Prepares micro-batches in background threads, ahead of the training step that needs them."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from vlrm_ray.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


class BackgroundLoader(Generic[Item, Result]):
    """Applies a function to items in threads, some items ahead of the consumer, and yields the results in order.

    Attributes:
        waited: seconds that the consumer has waited for results.
    """

    def __init__(self, function: Callable[[Item], Result], workers: int, timeout: float, ahead: int = 2) -> None:
        """Prepare a loader.

        Args:
            function: called in the threads.
            workers: number of threads.
            timeout: most seconds to wait for a result.
            ahead: results that each thread may be ahead of the consumer.
        """
        self.function, self.workers, self.timeout, self.ahead = function, workers, timeout, ahead
        self.waited = 0.0

    def __call__(self, items: Sequence[Item]) -> Iterator[Result]:
        """The results of all items; an exception of the function is raised where its result was due."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            pending: deque[Future[Result]] = deque()
            try:
                for item in items:
                    pending.append(pool.submit(self.function, item))
                    if len(pending) > self.workers * self.ahead:
                        yield self._next(pending)
                while pending:
                    yield self._next(pending)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, pending: "deque[Future[Result]]") -> Result:
        start = time.perf_counter()
        try:
            return pending.popleft().result(self.timeout)
        except TimeoutError:
            raise UserError(
                f"the images and texts of a training step were not ready within train.step_timeout={self.timeout:g} s; "
                "look at the storage of the images, or raise train.loader_workers"
            ) from None
        finally:
            self.waited += time.perf_counter() - start
