"""Metrics of items that come in clusters, such as statements about one image: the clusters are independent, not the items.

The 95 % intervals are percentile bootstraps that draw whole clusters, with a fixed seed. Where each cluster has one item, they
are those of independent items.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from vlrm_ray.evaluation.metrics import Metric, share

RESAMPLES = 1000
MIN_CLUSTERS = 20
"""With fewer clusters a bootstrap's interval is too narrow."""
_BINS = 10


def repeated(clusters: Sequence[Hashable]) -> list[int] | None:
    """Number of each item's cluster, from 0; None if each cluster has one item, so that the items are independent."""
    index, sizes = _clusters(clusters)
    return None if len(sizes) == len(index) else [int(number) for number in index]


def clustered_share(hits: Sequence[bool], clusters: Sequence[Hashable] | None) -> Metric:
    """Proportion of true values; the interval is never narrower than that of independent values.

    With fewer than `MIN_CLUSTERS` clusters, or if all values are alike, it is Wilson's interval for the effective number of
    values (Kish 1965), n² / (sum of the squared sizes of the clusters): that of values that are alike in each cluster.

    Args:
        hits: the values.
        clusters: the cluster of each value; None if the values are independent.
    """
    plain = share(hits)
    if clusters is None:
        return plain
    index, sizes = _clusters(clusters)
    if len(sizes) == len(hits):
        return plain
    if len(sizes) < MIN_CLUSTERS or sum(hits) in (0, len(hits)):
        low, high = _wilson(plain.value, len(hits) ** 2 / float((sizes**2).sum()))
    else:
        found = np.bincount(index, np.asarray(hits, float))
        low, high = _interval(len(sizes), lambda drawn: float(drawn @ found / (drawn @ sizes)))
    return Metric(plain.value, plain.n, min(low, plain.low), max(high, plain.high))


def balanced_accuracy(
    rewards: Sequence[float], right: Sequence[bool], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """Mean of the accuracies on right and on wrong responses, where a reward above 0.5 predicts "right".

    The interval combines those of the two accuracies by the square-and-add method, as `gain` does.

    Args:
        rewards: reward of each response, in [0, 1].
        right: whether each response is right.
        clusters: the cluster of each response; None if they are independent.
    """
    rows = list(zip(rewards, right, range(len(rewards)) if clusters is None else clusters, strict=True))
    classes = [[((r > 0.5) == y, cluster) for r, y, cluster in rows if y is label] for label in (True, False)]
    if not all(classes):
        return Metric(0.0, len(rewards), 0.0, 1.0)
    a, b = (clustered_share([hit for hit, _ in rows], [cluster for _, cluster in rows]) for rows in classes)
    value = (a.value + b.value) / 2
    down, up = math.hypot(a.value - a.low, b.value - b.low) / 2, math.hypot(a.high - a.value, b.high - b.value) / 2
    return Metric(value, len(rewards), max(0.0, value - down), min(1.0, value + up))


def ece(confidences: Sequence[float], right: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Expected calibration error, over 10 bins of equal width (ECE of Guo et al. 2017, section 2).

    The interval is 0 to 1 with fewer than `MIN_CLUSTERS` clusters.

    Args:
        confidences: confidence of each answer, in [0, 1], such as the p(Yes) of a response.
        right: whether each answer is right.
        clusters: the cluster of each answer; None if the answers are independent.
    """
    if len(confidences) == 0:
        return Metric(0.0, 0, 0.0, 1.0)
    p, y = np.asarray(confidences, float), np.asarray(right, float)
    index, sizes = _clusters(range(len(p)) if clusters is None else clusters)
    gaps = np.zeros((len(sizes), _BINS))  # of each cluster in each bin, summed over its answers
    np.add.at(gaps, (index, np.minimum((p * _BINS).astype(int), _BINS - 1)), p - y)
    value = float(abs(gaps.sum(0)).sum()) / len(p)
    if len(sizes) < MIN_CLUSTERS:
        return Metric(value, len(p), 0.0, 1.0)
    low, high = _interval(len(sizes), lambda drawn: abs(drawn @ gaps).sum() / (drawn @ sizes))
    return Metric(value, len(p), min(value, low), max(value, high))


def _clusters(clusters: Sequence[Hashable]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Number of each item's cluster, and the number of items of each cluster."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.asarray([numbers[cluster] for cluster in clusters], int)
    return index, np.bincount(index).astype(float)


def _interval(clusters: int, statistic: Callable[[NDArray[np.intp]], float]) -> tuple[float, float]:
    """Bootstrap interval of a statistic of how often each cluster is drawn."""
    rng = np.random.default_rng(0)
    drawn = (np.bincount(rng.integers(0, clusters, clusters), minlength=clusters) for _ in range(RESAMPLES))
    low, high = np.percentile([statistic(counts) for counts in drawn], [2.5, 97.5])
    return float(low), float(high)


def _wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson score interval (1927) of a proportion of n trials, which need not be a whole number."""
    z = 1.959964
    center, spread = value + z * z / (2 * n), z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, (center - spread) / (1 + z * z / n)), min(1.0, (center + spread) / (1 + z * z / n))
