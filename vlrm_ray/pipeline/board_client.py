"""What the driver asks the `ProgressBoard` actor, on which the stages and the training report their progress."""

import logging
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError

from vlrm_ray.errors import last_line
from vlrm_ray.pipeline.engine_calls import REPORT_TIMEOUT

NAME = "progress-board"
"""Name of the actor."""
_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class BoardClient:
    """Calls of the progress board by the driver.

    The board only shows how a run goes. A call that it does not answer within `REPORT_TIMEOUT` returns nothing instead of an
    error, and a line of the log says so, once for each kind of error: Ray is starting the board again, because its node was
    lost. What was reported before is lost then, so counts, seconds and spans cover the time since.

    Attributes:
        handle: handle of the actor.
    """

    def __init__(self, handle: ActorHandle[Any]) -> None:
        """Use a board."""
        self.handle, self._logged = handle, set[type[RayError]]()

    def counts(self) -> dict[str, int]:
        """Rows that have left each stage of the graph since the last reset, and cache hits."""
        return self._answer(self.handle.counts.remote(), {})

    def seconds(self) -> dict[str, float]:
        """Busy seconds of each stage of the graph since the last reset."""
        return self._busy()[0]

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each actor of the graph worked since the last reset: (start, end) in Unix time."""
        return self._busy()[1]

    def actor_seconds(self) -> dict[str, float]:
        """Busy seconds of each actor of the graph since the last reset."""
        return self._answer(self.handle.actor_seconds.remote(), {})

    def reset_counts(self, *, only_times: bool = False) -> None:
        """Reset counts, seconds and spans, or only the last two, before the next call of this client. Waits for nothing."""
        (self.handle.clear_times if only_times else self.handle.clear).remote()

    def steps(self, start: int) -> tuple[int, list[dict[str, Any]]]:
        """See `ProgressBoard.steps`; none and the same position if the board does not answer."""
        return self._answer(self.handle.steps.remote(start), (start, []))

    def _busy(self) -> tuple[dict[str, float], dict[str, list[tuple[float, float]]]]:
        return self._answer(self.handle.busy.remote(), ({}, {}))

    def _answer(self, reference: Any, nothing: T) -> T:
        """The answer to a call, or `nothing`."""
        try:
            answer: T = ray.get(reference, timeout=REPORT_TIMEOUT)
        except RayError as error:
            if type(error) not in self._logged:
                self._logged.add(type(error))
                reason = f" in {REPORT_TIMEOUT:g} s" if isinstance(error, GetTimeoutError) else f": {last_line(error)}"
                _LOG.warning("no answer of the progress board%s; the run goes on, but shows less of itself", reason)
            return nothing
        return answer
