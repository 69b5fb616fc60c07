"""Work on the next round in a thread of the driver, while the round before trains (`cluster.overlap`)."""

import threading
from collections.abc import Callable


class Ahead:
    """One piece of work at a time, each on a round.

    Attributes:
        round: number of the round that was worked on last; 0 for none.
    """

    def __init__(self) -> None:
        self.round = 0
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._stop = threading.Event()

    def start(self, round_: int, work: Callable[[], None]) -> None:
        """Start some work on a round; the work before it must have ended."""
        self.wait()
        self.round, self._error = round_, None
        self._thread = threading.Thread(target=self._run, args=(work,), name=f"round-{round_}-ahead", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the work has ended, well or not."""
        if self._thread is not None:
            self._thread.join()

    def finish(self, round_: int) -> None:
        """Wait for the work if it is on this round, and raise the error that it ended with."""
        if self.round == round_:
            self.wait()
            error, self._error = self._error, None
            if error is not None:
                raise error

    @property
    def stopped(self) -> bool:
        """Whether the work is to end early; it looks at this between two parts."""
        return self._stop.is_set()

    def close(self, seconds: float) -> None:
        """Let the work end early, and wait for that at most some seconds: the thread does not outlive the driver."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # for `finish`
            self._error = error
