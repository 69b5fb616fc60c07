"""Figures with their N and 95 % intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Metric:
    """A figure, over how many items, and its 95 % interval."""

    value: float
    n: int
    low: float
    high: float

    def as_json(self) -> dict[str, object]:
        """As `report.json` holds it."""
        return {"value": round(self.value, 6), "n": self.n, "ci95": [round(self.low, 6), round(self.high, 6)]}


def share(hits: Sequence[bool]) -> Metric:
    """Share of true items with its Wilson interval; N = 0 gives 0 within [0, 1]."""
    n, k = len(hits), sum(hits)
    if n == 0:
        return Metric(0.0, 0, 0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return Metric(k / n, n, float(interval.low), float(interval.high))


def prefers_chosen(chosen: Sequence[float], rejected: Sequence[float]) -> list[bool]:
    """For each pair whether the chosen side has the higher reward; a tie is wrong."""
    return [c > r for c, r in zip(chosen, rejected, strict=True)]


def ece(rewards: Sequence[float], right: Sequence[bool], bins: int = 10) -> Metric:
    """Expected calibration error of p(Yes) over equal-width bins (Guo et al. 2017, equation 5).

    Its interval is a bootstrap over items with a fixed seed.
    """
    p, y = np.asarray(rewards, float), np.asarray(right, float)
    if len(p) == 0:
        return Metric(0.0, 0, 0.0, 1.0)
    return _bootstrapped(p, y, lambda rewards, outcomes: _ece(rewards, outcomes, bins))


def _bootstrapped(x: np.ndarray, y: np.ndarray, figure: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    """A figure of paired values, its interval a percentile bootstrap over items with a fixed seed."""
    value = figure(x, y)
    rng = np.random.default_rng(0)
    draws = [figure(x[i], y[i]) for i in (rng.integers(0, len(x), len(x)) for _ in range(200))]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Metric(value, len(x), min(value, float(low)), max(value, float(high)))


def _ece(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    index = np.minimum((p * bins).astype(int), bins - 1)
    total = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            total += inside.sum() * abs(float(p[inside].mean()) - float(y[inside].mean()))
    return total / len(p)


def reliability(rewards: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[dict[str, float]]:
    """The bins behind `ece`: of each that holds any, its bounds, N, mean p(Yes) and share of right responses."""
    p, y = np.asarray(rewards, float), np.asarray(right, float)
    index = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "n": int(inside.sum()),
            "mean_reward": round(float(p[inside].mean()), 6),
            "right": round(float(y[inside].mean()), 6),
        }
        for b in range(bins)
        if (inside := index == b).any()
    ]


def gain(before: Metric, after: Metric, correlation: float = 0.0) -> tuple[float, float, float]:
    """Difference of two shares with its 95 % interval: Newcombe's square-and-add of Wilson intervals (1998).

    `correlation` is the phi coefficient of the two outcomes where both are of the same items, 0 where they
    are independent.
    """
    value = after.value - before.value
    a, b = after.value - after.low, before.high - before.value
    c, d = after.high - after.value, before.value - before.low
    down = math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
    up = math.sqrt(max(0.0, c * c - 2 * correlation * c * d + d * d))
    return value, max(-1.0, value - down), min(1.0, value + up)


def phi(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Correlation of two outcomes on the same items; 0 where one of them never varies."""
    x, y = np.asarray(before, float), np.asarray(after, float)
    spread = float(x.std() * y.std())
    return float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else 0.0


def balanced_accuracy(rewards: Sequence[float], right: Sequence[bool]) -> Metric:
    """Mean of the accuracies on right and on wrong responses, at a threshold of 0.5.

    Interval: normal approximation from the two accuracies' binomial variances.
    """
    correct = [(r > 0.5) == y for r, y in zip(rewards, right, strict=True)]
    sides = [[c for c, y in zip(correct, right, strict=True) if y is side] for side in (True, False)]
    if not all(sides):
        return Metric(0.0, len(rewards), 0.0, 1.0)
    means = [sum(s) / len(s) for s in sides]
    value = sum(means) / 2
    spread = 1.96 * math.sqrt(sum(m * (1 - m) / len(s) for m, s in zip(means, sides, strict=True))) / 2
    return Metric(value, len(rewards), max(0.0, value - spread), min(1.0, value + spread))


def f1(rewards: Sequence[float], right: Sequence[bool]) -> Metric:
    """F1 of finding wrong responses (the positive class) at a threshold of 0.5; bootstrap interval, fixed seed."""
    flagged, wrong = np.asarray(rewards, float) <= 0.5, ~np.asarray(right, bool)
    if len(wrong) == 0:
        return Metric(0.0, 0, 0.0, 1.0)
    return _bootstrapped(flagged, wrong, _f1)


def _f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    both = int(flagged.sum() + wrong.sum())
    return 2 * int((flagged & wrong).sum()) / both if both else 0.0
