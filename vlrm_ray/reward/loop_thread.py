"""An event loop in a thread of its own: callers in any thread, and in any other event loop, share what runs in it."""

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from vlrm_ray.errors import UserError

T = TypeVar("T")
CLOSED = "the reward model was closed; load it or connect again"
"""Message of work that comes after the end of the loop, or is ended by it."""


class LoopThread:
    """A running event loop. It ends with `close`, or when nobody refers to this object any more."""

    def __init__(self, name: str) -> None:
        """Start the loop in a thread of this name, which does not keep the process alive."""
        self._loop, self._lock, self._process = asyncio.new_event_loop(), threading.Lock(), os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of some work, for a thread without an event loop. If the thread is interrupted, the work is cancelled.

        Raises:
            UserError: the loop was closed, or this process is a fork of the one that started it.
            Exception: what the work raises.
        """
        future = self._submit(work)
        try:
            return future.result()
        except CancelledError:
            raise UserError(CLOSED) from None
        finally:
            future.cancel()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of some work, for another event loop. If the caller is cancelled, so is the work. Raises as `wait` does."""
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the caller itself is cancelled
                raise
            raise UserError(CLOSED) from None

    def close(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Cancel all work, so that its callers get a UserError, and end the thread. A second call does nothing.

        Args:
            finish: what is awaited in the loop at its end.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if self._stop.detach() is None:
                return
            ended = asyncio.run_coroutine_threadsafe(_end(finish), self._loop)
        ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._process != os.getpid():
            work.close()
            raise UserError("the reward model was connected before this process was forked; connect in each process")
        with self._lock:  # so that what has been accepted is there when `close` cancels all work
            if self._stop.alive:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise UserError(CLOSED)


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of some coroutines that run at the same time. If one raises, the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _end(finish: Callable[[], Awaitable[None]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await finish()
