"""What a round is measured by: evaluators, which send critique requests to the reward model and compute metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlrm_ray.engines import Completion, Request
from vlrm_ray.evaluation.metrics import Metric

JudgeFn = Callable[[list[Request]], list[Completion]]
"""Writes one greedy critique for each request."""


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluator.

    Attributes:
        metrics: the metrics by their names in `report.json`.
        details: what the report shows beside them: `hits` by metric ("1" for each correct item) and `clusters` (number of
            each item's image, if some have several items), `reliability`, `samples`.
        calibration: content of the model's `vlrm_calibration.json`; empty if the evaluator fits no temperature.
    """

    metrics: dict[str, Metric]
    details: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)


class Evaluator(Protocol):
    """Measures a reward model."""

    @property
    def title(self) -> str:
        """What is measured, for the progress line."""
        ...

    @property
    def headline(self) -> Sequence[str]:
        """Names of the metrics that the progress line shows."""
        ...

    def critique_count(self) -> int:
        """Number of critiques that `evaluate` requests."""
        ...

    def evaluate(self, judge: JudgeFn) -> Evaluated:
        """Measure the reward model that writes the critiques."""
        ...


def merged(results: Sequence[Evaluated]) -> dict[str, Any]:
    """The content of a round's result: all metrics as JSON, and the details of all evaluators.

    If several give the same detail, such as `reliability`, the first one is kept; their `hits` and `samples` are joined.
    """
    content: dict[str, Any] = {"metrics": {}}
    for result in results:
        content["metrics"] |= {name: metric.as_json() for name, metric in result.metrics.items()}
        for name, value in result.details.items():
            content[name] = _joined(content[name], value) if name in content else value
    return content


def _joined(first: Any, second: Any) -> Any:
    """Two details with the same name as one."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {**second, **first}
    samples = isinstance(first, list) and all(isinstance(sample, Mapping) and "item_id" in sample for sample in first)
    return [*first, *second] if samples else first
