"""Work on the next round in the background, while the round before trains (`cluster.overlap`)."""

import threading
from collections.abc import Callable

from vlrm_ray.pipeline.background import Task


class Ahead:
    """One piece of work at a time, each on a round.

    Attributes:
        round: number of the round that was worked on last; 0 for none.
    """

    def __init__(self) -> None:
        self.round = 0
        self._task: Task[None] | None = None
        self._stop = threading.Event()

    def start(self, round_: int, work: Callable[[], None]) -> None:
        """Start some work on a round; the work before it must have ended."""
        self.wait()
        self.round, self._task = round_, Task(work, f"round-{round_}-ahead")

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work has ended, well or not; at most some seconds, if given."""
        if self._task is not None:
            self._task.wait(seconds)

    def finish(self, round_: int) -> None:
        """Wait for the work if it is on this round, and raise the error that it ended with."""
        if self.round == round_ and self._task is not None:
            task, self._task = self._task, None
            task.result()

    @property
    def stopped(self) -> bool:
        """Whether the work is to end early; it looks at this between two parts."""
        return self._stop.is_set()

    def close(self, seconds: float) -> None:
        """Let the work end early, and wait for that at most some seconds."""
        self._stop.set()
        self.wait(seconds)
