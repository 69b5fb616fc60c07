"""Whether an engine refuses everything from the start: then it is at fault itself, and the work has to stop."""

from collections import Counter
from collections.abc import Mapping

MAX_REFUSALS_BEFORE_FIRST_ANSWER = 16
"""If an engine refuses this many requests before it answers any, it is at fault."""


class RefusalGuard:
    """Counts what an engine refuses, until it answers something.

    Attributes:
        answered: whether anything has been answered.
        refused: number of refusals, by reason.
    """

    def __init__(self, answered: bool = False) -> None:
        """Start counting; nothing is counted if something is `answered` already."""
        self.answered, self.refused = answered, Counter[str]()

    def add(self, answered: bool, refused: Mapping[str, int]) -> bool:
        """Count some requests.

        Args:
            answered: whether any of them was answered.
            refused: how many of them the engine refused, by reason.

        Returns:
            Whether the engine is at fault.
        """
        self.answered = self.answered or answered
        self.refused.update(refused)
        return not self.answered and self.refused.total() >= MAX_REFUSALS_BEFORE_FIRST_ANSWER

    @property
    def reason(self) -> str:
        """The first reason."""
        return next(iter(self.refused))

    def text(self, requests: str) -> str:
        """What the engine did, for a message; `requests` is the name of what it refused, in the plural."""
        return f"refused all of the first {self.refused.total()} {requests} ({self.reason})"
