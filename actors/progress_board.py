"""Where stages that run elsewhere say how far they are."""

import time

Span = tuple[float, float]
BLINK = 0.2
"""Seconds: a shorter pause of an actor is no pause."""


class ProgressBoard:
    """Counts of rows by stage, and who was at work when; the driver reads them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.busy: dict[str, float] = {}
        self.work: dict[str, list[Span]] = {}
        self.nameless: dict[str, list[str]] = {}

    def add(self, stage: str, rows: int, seconds: float = 0.0, actor: str = "") -> None:
        """Count rows that left a stage, and the seconds an actor was busy with them until now.

        An `actor` that begins with "#" is one of a pool and gets its stage's name and a number.
        """
        self.counts[stage] = self.counts.get(stage, 0) + rows
        self.busy[stage] = self.busy.get(stage, 0.0) + seconds
        if seconds > 0:
            now = time.time()
            name = self._number(stage, actor) if actor.startswith("#") else actor or stage
            self.work.setdefault(name, []).append((now - seconds, now))

    def _number(self, stage: str, actor: str) -> str:
        known = self.nameless.setdefault(stage, [])
        if actor not in known:
            known.append(actor)
        return f"{stage}-{known.index(actor)}"

    def take(self) -> dict[str, int]:
        """The rows of each stage so far."""
        return dict(self.counts)

    def seconds(self) -> dict[str, float]:
        """The busy seconds of each stage so far."""
        return dict(self.busy)

    def spans(self) -> dict[str, list[Span]]:
        """When each actor, or stage without one, was at work: spans in Unix time that do not overlap."""
        return {actor: _joined(spans) for actor, spans in self.work.items()}

    def clear(self) -> None:
        """Begin again, for a new round."""
        self.counts.clear()
        self.busy.clear()
        self.work.clear()
        self.nameless.clear()


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for began, ended in sorted(spans):
        if joined and began <= joined[-1][1] + BLINK:
            joined[-1] = (joined[-1][0], max(joined[-1][1], ended))
        else:
            joined.append((began, ended))
    return joined
