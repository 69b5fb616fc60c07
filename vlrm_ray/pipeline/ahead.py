"""Work on the next round in the background, while the round before trains (`cluster.overlap`)."""

import threading
from collections.abc import Callable
from functools import partial

from vlrm_ray.errors import RoundFailed, first_line, user_message
from vlrm_ray.pipeline.background import Task


class Ahead:
    """One piece of work at a time, each on a round.

    The work only saves time: if it fails, that is logged at once, and the round makes itself what is missing. Only if the
    round would fail in the same way (`RoundFailed`), it does not begin.

    Attributes:
        round: number of the round that was worked on last; 0 for none.
    """

    def __init__(self, log: Callable[[str], None] = print) -> None:
        """Prepare work whose failures are logged by a function that prints a line."""
        self.round, self._log = 0, log
        self._task: Task[None] | None = None
        self._stop = threading.Event()
        self._failed: RoundFailed | None = None

    def start(self, round_: int, work: Callable[[], None]) -> None:
        """Start some work on a round; the work before it must have ended."""
        self.wait()
        self._failed = None
        self.round, self._task = round_, Task(partial(self._run, round_, work), f"round-{round_}-ahead")

    def _run(self, round_: int, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # also a bug: the round meets it again, and raises it
            if not self.stopped:
                reason = user_message(error) or f"{type(error).__name__}: {first_line(error)}"
                self._failed = error if isinstance(error, RoundFailed) else None
                result = "the run ends before this round" if self._failed else "the round makes the rest itself"
                self._log(f"round {round_}: gathering ahead has failed, so {result}: {reason}")

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work has ended, well or not; at most some seconds, if given."""
        if self._task is not None:
            self._task.wait(seconds)

    def finish(self, round_: int) -> None:
        """Wait for the work if it is on this round, whether it ends well or not.

        Raises:
            RoundFailed: what the work raised, if the round would fail in the same way.
        """
        if self.round == round_:
            self.wait()
            if self._failed:
                raise self._failed

    @property
    def stopped(self) -> bool:
        """Whether the work is to end early; it looks at this between two parts."""
        return self._stop.is_set()

    def close(self, seconds: float) -> None:
        """Let the work end early, and wait for that at most some seconds."""
        self._stop.set()
        self.wait(seconds)
