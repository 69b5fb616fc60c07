"""What the driver asks the `ProgressBoard` actor, on which the stages and the training report their progress."""

from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError

from vlrm_ray.pipeline.engine_calls import REPORT_TIMEOUT, get

NAME = "progress-board"
"""Name of the actor."""


class BoardClient:
    """Calls of the progress board by the driver.

    Attributes:
        handle: handle of the actor.
    """

    def __init__(self, handle: ActorHandle[Any], timeout: float) -> None:
        """Use a board.

        Args:
            handle: handle of the actor.
            timeout: seconds within which it must answer, by `cluster.start_timeout`.
        """
        self.handle, self._timeout = handle, timeout

    def counts(self) -> dict[str, int]:
        """Rows that have left each stage of the graph since the last reset, and cache hits."""
        counts: dict[str, int] = self._ask(self.handle.counts)
        return counts

    def seconds(self) -> dict[str, float]:
        """Busy seconds of each stage of the graph since the last reset."""
        seconds: dict[str, float] = self._ask(self.handle.busy)[0]
        return seconds

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each actor of the graph worked since the last reset: (start, end) in Unix time."""
        spans: dict[str, list[tuple[float, float]]] = self._ask(self.handle.busy)[1]
        return spans

    def actor_seconds(self) -> dict[str, float]:
        """Busy seconds of each actor of the graph since the last reset."""
        seconds: dict[str, float] = self._ask(self.handle.actor_seconds)
        return seconds

    def reset_counts(self, *, only_times: bool = False) -> None:
        """Reset counts, seconds and spans, or only the last two."""
        self._ask(self.handle.clear_times if only_times else self.handle.clear)

    def steps(self, start: int) -> list[dict[str, Any]]:
        """The records of training steps that have arrived, without the first `start`; [] if the board does not answer."""
        try:
            records: list[dict[str, Any]] = ray.get(self.handle.steps.remote(start), timeout=REPORT_TIMEOUT)
        except (RayError, GetTimeoutError):  # a training goes on without its records
            return []
        return records

    def _ask(self, method: Any) -> Any:
        return get({NAME: method.remote()}, self._timeout, "the progress", "cluster.start_timeout")[0]
