"""Metrics of items that come in clusters, such as statements about one image: the clusters are independent, not the items.

The 95 % intervals are percentile bootstraps that draw whole clusters, with a fixed seed.
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


def clustered_share(hits: Sequence[bool], clusters: Sequence[Hashable]) -> Metric:
    """Proportion of true values; the interval is never narrower than that of independent values.

    With fewer than `MIN_CLUSTERS` clusters, or if all values are alike, it is Wilson's interval for the effective number of
    values (Kish 1965), n² / (sum of the squared sizes of the clusters): that of values that are alike in each cluster.

    Args:
        hits: the values.
        clusters: the cluster of each value.
    """
    plain = share(hits)
    if not hits:
        return plain
    index, sizes = _clusters(clusters)
    if len(sizes) < MIN_CLUSTERS or sum(hits) in (0, len(hits)):
        low, high = _wilson(plain.value, len(hits) ** 2 / float((sizes**2).sum()))
    else:
        found = np.bincount(index, np.asarray(hits, float))
        low, high = _interval(len(sizes), lambda drawn: float(drawn @ found / (drawn @ sizes)))
    return Metric(plain.value, plain.n, min(low, plain.low), max(high, plain.high))


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
    index = np.asarray([numbers[cluster] for cluster in clusters])
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
