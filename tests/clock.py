"""A clock for tests: it stands for the module `time`."""


class Clock:
    """Time that passes only in `sleep`, at once.

    Attributes:
        now: seconds since the beginning.
        pauses: the pauses that were made, in seconds.
    """

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, list[float]()

    def monotonic(self) -> float:
        """The time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let some time pass."""
        self.pauses.append(seconds)
        self.now += seconds
