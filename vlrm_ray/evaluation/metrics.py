"""Metrics with the number of items behind them and a 95 % confidence interval."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, binomtest

BOOTSTRAP_RESAMPLES = 200
_ROUNDING = 1e-9
"""A smaller spread is one of rounding errors."""
MIN_BOOTSTRAP = 20
"""With fewer items no bootstrap interval is stated but 0 to 1: a few items are often alike, and then all resamples are."""


@dataclass(frozen=True)
class Metric:
    """A value with its 95 % confidence interval.

    Attributes:
        value: the estimate.
        n: number of items that it is computed from.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    n: int
    low: float
    high: float

    def as_json(self) -> dict[str, object]:
        """The metric as it is stored in `report.json`, rounded to 6 decimals."""
        return {"value": round(self.value, 6), "n": self.n, "ci95": [round(self.low, 6), round(self.high, 6)]}


def share(hits: Sequence[bool]) -> Metric:
    """Proportion of true values, with a Wilson score interval (Wilson 1927); no values give 0 in [0, 1]."""
    n, k = len(hits), sum(hits)
    if n == 0:
        return Metric(0.0, 0, 0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return Metric(k / n, n, float(interval.low), float(interval.high))


def _bootstrap(x: np.ndarray, y: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    """A statistic of the paired values x and y, each of shape (n,), with a percentile bootstrap interval (seed 0)."""
    value = statistic(x, y)
    if len(x) < MIN_BOOTSTRAP:
        return Metric(value, len(x), 0.0, 1.0)
    rng = np.random.default_rng(0)
    samples = [statistic(x[i], y[i]) for i in (rng.integers(0, len(x), len(x)) for _ in range(BOOTSTRAP_RESAMPLES))]
    low, high = np.percentile(samples, [2.5, 97.5])
    return Metric(value, len(x), min(value, float(low)), max(value, float(high)))


def reliability(rewards: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[dict[str, float]]:
    """The non-empty bins that `clusters.ece` sums over.

    Returns:
        For each bin its bounds `low` and `high`, the number `n` of responses in it, their `mean_reward`
        and the share of them that are `right`.
    """
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


def chance_ece(bins: Sequence[Mapping[str, float]]) -> float:
    """The calibration error that perfectly calibrated rewards show on average, by chance: it is above 0 for a few responses.

    Args:
        bins: output of `reliability`. Of the responses in a bin each is right with a probability of its mean reward.
    """
    gaps = 0.0
    for each in bins:
        n, p = int(each["n"]), each["mean_reward"]
        right = np.arange(n + 1)
        gaps += float(abs(right - n * p) @ binom.pmf(right, n, p))
    return gaps / sum(each["n"] for each in bins)


def gain(before: Metric, after: Metric, correlation: float = 0.0) -> tuple[float, float, float]:
    """Difference of two proportions with its 95 % interval.

    The interval combines the two Wilson intervals by the square-and-add method of Newcombe (1998).

    Args:
        before: the first proportion, from `share`.
        after: the second proportion, from `share`.
        correlation: `phi` of the outcomes if both proportions are of the same items, 0 for independent samples.

    Returns:
        The difference `after - before`, and the lower and upper end of its interval.
    """
    value = after.value - before.value
    a, b = after.value - after.low, before.high - before.value
    c, d = after.high - after.value, before.value - before.low
    down = math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
    up = math.sqrt(max(0.0, c * c - 2 * correlation * c * d + d * d))
    return value, max(-1.0, value - down), min(1.0, value + up)


def phi(before: Sequence[bool], after: Sequence[bool], clusters: Sequence[int] | None = None) -> float:
    """Correlation of two proportions of the same items; 0 if either outcome is constant.

    Args:
        before: the first outcome of each item.
        after: the second one.
        clusters: number of each item's cluster, from 0. Clusters are independent, so their sums are correlated; without
            clusters the items are, and the result is the phi coefficient.
    """
    x, y = np.asarray(before, float), np.asarray(after, float)
    x, y = x - x.mean(), y - y.mean()
    if clusters is not None:
        x, y = np.bincount(clusters, x).astype(float), np.bincount(clusters, y).astype(float)
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread > _ROUNDING else 0.0


def f1(rewards: Sequence[float], right: Sequence[bool]) -> Metric:
    """F1 of detecting wrong responses (the positive class), where a reward of at most 0.5 predicts "wrong".

    The interval is a percentile bootstrap over items with a fixed seed; 0 to 1 with fewer than `MIN_BOOTSTRAP` items.
    """
    flagged, wrong = np.asarray(rewards, float) <= 0.5, ~np.asarray(right, bool)
    if len(wrong) == 0:
        return Metric(0.0, 0, 0.0, 1.0)
    return _bootstrap(flagged, wrong, _f1)


def _f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    total = int(flagged.sum() + wrong.sum())
    return 2 * int((flagged & wrong).sum()) / total if total else 0.0
