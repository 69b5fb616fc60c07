"""Differences between two evaluations of a run, with their intervals."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.metrics import Metric

HEADLINE = ("hallucination_pair_accuracy", "reasoning_pair_accuracy", "held_out_pair_accuracy")
"""The main metrics of a run, the first one first. The choice is fixed, independent of the outcome."""
CONSISTENCY = "reasoning_consistency"
_BENCHMARK = re.compile(r"benchmark_(?P<name>.+)_accuracy")
_BASELINE = re.compile(r"_pick_(shorter|longer)_accuracy$")


@dataclass(frozen=True)
class Gain:
    """Difference of a metric between two evaluations.

    Attributes:
        value: later minus earlier value.
        low: lower end of the 95 % interval.
        high: upper end.
        n: number of items of the later evaluation.
        paired: whether both evaluations judged the same items, and stored the outcome of each.
    """

    value: float
    low: float
    high: float
    n: int
    paired: bool

    def as_json(self) -> dict[str, Any]:
        """Form used in `report.json`."""
        interval = [round(self.low, 6), round(self.high, 6)]
        return {"value": round(self.value, 6), "n": self.n, "ci95": interval, "paired": self.paired}


def main_metrics(names: Iterable[str]) -> list[str]:
    """Of the names of metrics those of `HEADLINE`; without any of them, the accuracies on public benchmarks."""
    measured = list(names)
    return [name for name in HEADLINE if name in measured] or [name for name in measured if benchmark_of(name)]


def benchmark_of(metric: str) -> str:
    """The public benchmark whose accuracy a metric is; "" for other metrics."""
    found = None if _BASELINE.search(metric) else _BENCHMARK.fullmatch(metric)
    return found["name"] if found else ""


def gain_between(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Gain:
    """The gain in a metric from one stored evaluation result to another, paired by item if possible.

    Of items in clusters, such as pairs about one image, only the clusters are taken for independent.
    """
    hits = [[hit == "1" for hit in result.get("hits", {}).get(name, "")] for result in (before, after)]
    paired = len(hits[0]) == len(hits[1]) > 0
    old, new = (_metric(result["metrics"][name]) for result in (before, after))
    clusters = after.get("clusters", {}).get(name)
    return Gain(*metrics.gain(old, new, metrics.phi(hits[0], hits[1], clusters) if paired else 0.0), new.n, paired)


def gains_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Gain]:
    """The gains in all metrics that both results have outcomes of, and in the main metrics, these first."""
    names = dict.fromkeys((*HEADLINE, CONSISTENCY, *before.get("hits", {})))
    return {
        name: gain_between(name, before, after)
        for name in names
        if name in before["metrics"] and name in after["metrics"]
    }


def shows_gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether one of the main metrics has risen: its 95 % interval is above zero."""
    gains = gains_between(before, after)
    return any(gains[name].low > 0 for name in main_metrics(gains))


def _metric(stored: Mapping[str, Any]) -> Metric:
    return Metric(stored["value"], stored["n"], *stored["ci95"])
