"""Whether it is an engine's own fault that it refuses requests.

`RefusalGuard` stops the work if an engine refuses everything from the start. `SickEngines` keeps requests away from one of
several engines, if it refuses what others answer.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping

from vlrm_ray.engines import Request
from vlrm_ray.store.filesystem import redacted

MAX_REFUSALS_BEFORE_FIRST_ANSWER = 16
"""If an engine refuses this many requests before it answers any, it is at fault."""
WRONG_REFUSALS = 3
"""After so many calls with refusals that another engine has disproved, an engine gets no requests for `REST_SECONDS`."""
REST_SECONDS = 300.0
"""Time after which such an engine gets requests again: somebody may have repaired its node."""


def about(request: Request) -> str:
    """What a request is recognized by in a message: its image, or the beginning of its text."""
    return f"the image {redacted(request.image)}" if request.image else f"the text {request.text[:200]!r}"


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


class SickEngines:
    """The engines of a role that rest: they refuse what others answer, as with a full disk on their node, or run no more."""

    def __init__(self) -> None:
        """Take all engines for healthy."""
        self._refused, self._wrong, self._until = Counter[int](), Counter[int](), dict[int, float]()

    def refused(self, engine: int, requests: int) -> None:
        """Count requests that an engine has refused, rightly or not."""
        self._refused[engine] += requests

    def disproved(self, engine: int) -> bool:
        """Count a call of which another engine has answered something that this one refused.

        Returns:
            Whether the engine rests from now on.
        """
        self._wrong[engine] += 1
        if self._wrong[engine] < WRONG_REFUSALS or engine in self.resting():
            return False
        self._wrong[engine] = 0
        return self.rest(engine)

    def rest(self, engine: int) -> bool:
        """Give an engine no requests for `REST_SECONDS`; returns whether it did not rest before."""
        new = engine not in self.resting()
        self._until[engine] = time.monotonic() + REST_SECONDS
        return new

    def resting(self) -> set[int]:
        """The engines that get no requests for now."""
        now = time.monotonic()
        return {engine for engine, until in self._until.items() if until > now}

    def most_trusted(self, engines: Collection[int]) -> list[int]:
        """Those of some engines that have refused the fewest requests. A sick one, which is never busy, is not among them."""
        fewest = min((self._refused[engine] for engine in engines), default=0)
        return [engine for engine in engines if self._refused[engine] == fewest]
