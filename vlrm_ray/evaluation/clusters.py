"""Metrics of items that come in clusters, such as statements about one image: the clusters are independent, not the items.

The 95 % intervals are percentile bootstraps that draw whole clusters, with a fixed seed.
"""

import math
from collections.abc import Hashable, Sequence

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
        drawn = _drawn(len(sizes))
        samples = drawn @ np.bincount(index, np.asarray(hits, float)) / (drawn @ sizes)
        low, high = np.percentile(samples, [2.5, 97.5]).tolist()
    return Metric(plain.value, plain.n, min(low, plain.low), max(high, plain.high))


def clustered_ece(confidences: Sequence[float], right: Sequence[bool], clusters: Sequence[Hashable]) -> Metric:
    """Expected calibration error as `metrics.ece` computes it; the interval is 0 to 1 with fewer than `MIN_CLUSTERS` clusters.

    Args:
        confidences: confidence of each answer, in [0, 1].
        right: whether each answer is right.
        clusters: the cluster of each answer.
    """
    if not confidences:
        return Metric(0.0, 0, 0.0, 1.0)
    p, y = np.asarray(confidences, float), np.asarray(right, float)
    index, sizes = _clusters(clusters)
    gaps = np.zeros((len(sizes), _BINS))  # of each cluster in each bin, summed over its answers
    np.add.at(gaps, (index, np.minimum((p * _BINS).astype(int), _BINS - 1)), p - y)
    value = float(abs(gaps.sum(0)).sum()) / len(p)
    if len(sizes) < MIN_CLUSTERS:
        return Metric(value, len(p), 0.0, 1.0)
    drawn = _drawn(len(sizes))
    low, high = np.percentile(abs(drawn @ gaps).sum(1) / (drawn @ sizes), [2.5, 97.5]).tolist()
    return Metric(value, len(p), min(value, low), max(value, high))


def _clusters(clusters: Sequence[Hashable]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Number of each item's cluster, and the number of items of each cluster."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.asarray([numbers[cluster] for cluster in clusters])
    return index, np.bincount(index).astype(float)


def _drawn(clusters: int) -> NDArray[np.float64]:
    """How often each cluster is drawn in each resample."""
    drawn = np.random.default_rng(0).integers(0, clusters, (RESAMPLES, clusters))
    places = drawn + clusters * np.arange(RESAMPLES)[:, None]
    return np.bincount(places.ravel(), minlength=RESAMPLES * clusters).reshape(RESAMPLES, clusters).astype(float)


def _wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson score interval (1927) of a proportion of n trials, which need not be a whole number."""
    z = 1.959964
    center, spread = value + z * z / (2 * n), z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, (center - spread) / (1 + z * z / n)), min(1.0, (center + spread) / (1 + z * z / n))
