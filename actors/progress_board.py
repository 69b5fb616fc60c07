"""Actor that collects the progress of the stages of a round, for display by the driver."""

import time
from typing import Any

Span = tuple[float, float]
"""Start and end, in Unix time."""
MIN_PAUSE = 0.2
"""Spans of one actor that are less than this many seconds apart are joined."""


class ProgressBoard:
    """Counts the rows and busy seconds of each stage, and records when each actor worked and what each step trained.

    Ray starts it again if its node is lost. It knows nothing then of what was reported before: counts and times start at 0.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._spans: dict[str, list[Span]] = {}
        self._pool_actors: dict[str, list[str]] = {}
        self._steps: list[dict[str, Any]] = []
        self._first = time.time_ns()  # position of the first record: higher than all of a board before this one
        self._since = 0.0

    def add(self, stage: str, rows: int, seconds: float = 0.0, actor: str = "") -> None:
        """Record a finished piece of work.

        Args:
            stage: name of the stage.
            rows: rows that were finished.
            seconds: how long the work took, until now.
            actor: name of the actor. An id that starts with "#" belongs to an actor of a pool; it is replaced by the
                stage's name and a number. "" stands for the stage itself.
        """
        now = time.time()
        seconds = min(seconds, max(0.0, now - self._since))
        self._rows[stage] = self._rows.get(stage, 0) + rows
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        if seconds > 0:
            name = self._pool_actor_name(stage, actor) if actor.startswith("#") else actor or stage
            self._spans.setdefault(name, []).append((now - seconds, now))

    def _pool_actor_name(self, stage: str, actor: str) -> str:
        known = self._pool_actors.setdefault(stage, [])
        if actor not in known:
            known.append(actor)
        return f"{stage}-{known.index(actor)}"

    def counts(self) -> dict[str, int]:
        """Rows finished so far, by stage."""
        return dict(self._rows)

    def busy(self) -> tuple[dict[str, float], dict[str, list[Span]]]:
        """Busy seconds so far by stage, and when each actor worked, or each stage without named actors.

        The spans of an actor are sorted and do not overlap.
        """
        return dict(self._seconds), {actor: _joined(spans) for actor, spans in self._spans.items()}

    def actor_seconds(self) -> dict[str, float]:
        """Seconds in which each actor worked so far, or each stage without named actors."""
        self._spans = {
            actor: _joined(spans) for actor, spans in self._spans.items()
        }  # so that the next call has less to do
        return {actor: sum(end - start for start, end in spans) for actor, spans in self._spans.items()}

    def add_step(self, record: dict[str, Any]) -> None:
        """Add the record of a training step."""
        self._steps.append(record)

    def steps(self, start: int) -> tuple[int, list[dict[str, Any]]]:
        """The records of training steps since a position, in the order of their arrival.

        Args:
            start: the position that an earlier call returned; 0 for all records. If the board has been started again since,
                its records are all new.

        Returns:
            The position after the last record, and the records.
        """
        return self._first + len(self._steps), self._steps[max(0, start - self._first) :]

    def clear(self) -> None:
        """Reset everything except the steps, before a new round."""
        self._rows.clear()
        self._pool_actors.clear()
        self.clear_times()

    def clear_times(self) -> None:
        """Reset the times, now that all engines work: those that waited for an engine's start were not busy."""
        self._since = time.time()
        self._seconds.clear()
        self._spans.clear()


def _joined(spans: list[Span]) -> list[Span]:
    """Sort spans and join those that overlap or are less than `MIN_PAUSE` apart."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + MIN_PAUSE:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
