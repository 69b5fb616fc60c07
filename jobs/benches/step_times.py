"""Actor that stands for the driver's progress board where only the times of training steps are of interest."""

import time
from typing import Any


class StepTimes:
    """Start (Unix time) and seconds of each step."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float]] = []

    def add_step(self, record: dict[str, Any]) -> None:
        """Add the record of a step that has just ended."""
        self._steps.append((time.time() - record["seconds"], record["seconds"]))

    def steps(self) -> list[tuple[float, float]]:
        """The steps so far."""
        return self._steps
