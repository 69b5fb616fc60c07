"""Patience with storages: work that failed because a storage is overloaded or cannot be reached is done again.

The clients of object stores repeat a request for some seconds. Throttling and failovers last for minutes, and whatever
process they hit would end the whole run. A loop of our own, because no dependency brings a library for it.
"""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from vlrm_ray.errors import first_line
from vlrm_ray.store.filesystem import may_pass, redacted

PATIENCE_SECONDS = 600
"""How long work is tried again: longer than throttling and failovers of storages last, shorter than anyone wants to pay for
idle GPUs."""
FILE_SECONDS = 30
"""How long work on one file is tried again while the storage answers otherwise: then the file is damaged."""
NOTICE_SECONDS = 60
"""After this time of waiting, a line of the log names what waits."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the second attempt, and most seconds between two; the pauses double. Each is shortened at random by up to a
half, so that the processes of a run do not come back at the same moment."""
_LOG = logging.getLogger(__name__)
_DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""Monotonic time in seconds until which work is tried again."""

T = TypeVar("T")


@contextmanager
def impatient() -> Iterator[None]:
    """Context manager: `patiently` tries once in this thread, so that a wrong address or key is reported at once."""
    with patient_for(-math.inf):
        yield


@contextmanager
def patient_for(seconds: float) -> Iterator[None]:
    """Context manager: all that is done in this thread is tried again for some seconds together, since somebody waits for it.

    Other threads do not inherit it, unless they run in a copy of the context (`contextvars.copy_context`).
    """
    token = _DEADLINE.set(min(_DEADLINE.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def patiently(work: Callable[[], T], path: str, fails_alone: Callable[[Exception], bool] = lambda _: False) -> T:
    """Result of some work on a storage, which is done again while it fails in a way that may pass.

    Args:
        work: the work; to do it twice must do no harm.
        path: path or URI of the file that it is about.
        fails_alone: whether an error is the file's own, because the storage answers otherwise.

    Raises:
        Exception: what the work raised: the first error that does not pass, or the last one after `PATIENCE_SECONDS` or the time
            of `patient_for`, or after the file alone has failed for `FILE_SECONDS`.
    """
    start, pause, told = time.monotonic(), FIRST_PAUSE, False
    patience = min(PATIENCE_SECONDS, _DEADLINE.get() - start)
    since: float | None = None  # when the file began to fail alone
    while True:
        try:
            result = work()
            if told:
                _LOG.warning("the storage answers again: %s", redacted(path))
            return result
        except Exception as error:
            waited = time.monotonic() - start
            if waited >= patience or not may_pass(error, path):
                raise
            if not fails_alone(error):
                since = None
            elif since is None:
                since = waited
            elif waited - since >= FILE_SECONDS:
                raise
            if waited >= NOTICE_SECONDS and not told:
                told = True
                reason = redacted(first_line(error))
                _LOG.warning("waiting up to %.0f s more for %s: %s", patience - waited, redacted(path), reason)
        left = patience - waited if since is None else since + FILE_SECONDS - waited
        time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, left)))
        pause = min(2 * pause, LONGEST_PAUSE)
