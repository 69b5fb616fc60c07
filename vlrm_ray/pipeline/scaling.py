"""When the number of engine actors changes: it follows the sequences that are unfinished, and shrinks after a while."""

from dataclasses import dataclass, field

SHRINK_SECONDS = 60.0
"""Time for which fewer engines must have been enough before one of them ends: its next start takes minutes."""


@dataclass
class ScalingRule:
    """How many engines of a role are wanted.

    Attributes:
        minimum: fewest engines.
        maximum: most engines.
        sequences: sequences that an engine works on at the same time.
    """

    minimum: int
    maximum: int
    sequences: int
    _needed: list[tuple[float, int]] = field(default_factory=list)

    def wanted(self, unfinished: int, engines: int, now: float) -> int:
        """Number of engines that there should be.

        Args:
            unfinished: sequences that run or wait in all engines.
            engines: number of engines, with those that are starting.
            now: time in seconds.

        Returns:
            More than `engines` at once if there is work for them; fewer only if so many were enough all the time since
            `SHRINK_SECONDS` ago.
        """
        needed = min(self.maximum, max(self.minimum, -(-unfinished // self.sequences)))
        self._needed.append((now, needed))
        start = now - SHRINK_SECONDS
        while len(self._needed) > 1 and self._needed[1][0] <= start:
            self._needed.pop(0)
        if needed >= engines or self._needed[0][0] > start:
            return max(needed, engines)
        return min(engines, max(count for _, count in self._needed))
