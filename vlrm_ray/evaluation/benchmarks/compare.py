"""Paired comparison of two results on the same items, with a significance test and a confidence interval."""

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, bootstrap

from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.clusters import MIN_CLUSTERS, repeated
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger

SUMMARY, OUTCOMES = "summary.json", "items.jsonl"
_RESAMPLES = 9999
_VALUES_PER_BATCH = 1 << 22
"""Upper limit of the resampled values in memory at a time."""


@dataclass(frozen=True)
class Result:
    """A finished benchmark.

    Attributes:
        folder: the output folder of `evaluate.py bench`, for messages.
        summary: the content of `summary.json`.
        outcomes: the rows of `items.jsonl`, by item key.
    """

    folder: str
    summary: Mapping[str, Any]
    outcomes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Difference of result B and result A on the items that both have.

    Attributes:
        n: number of common items.
        clusters: number of their images, and of questions without one.
        a, b: accuracy of A and of B on them.
        only_a, only_b: number of items that only A, or only B, has right.
        p: p-value of the exact two-sided sign-flip test over clusters. With one item in each it is McNemar's (1947): `only_b` of
            the `only_a + only_b` discordant items against a binomial distribution with probability 1/2.
        low, high: 95 % interval of the difference in accuracy, B minus A; percentile bootstrap over clusters of paired items,
            -1 to 1 if clusters have several items and there are fewer than `MIN_CLUSTERS`.
    """

    n: int
    clusters: int
    a: float
    b: float
    only_a: int
    only_b: int
    p: float
    low: float
    high: float


def load(place: str) -> Result:
    """Read a result from its folder, by path or URI, or from the path of its `summary.json`.

    Raises:
        UserError: a file is missing or damaged.
    """
    ledger = Ledger(os.path.dirname(os.path.abspath(place)) if os.path.isfile(place) else place)
    folder, files = redacted(ledger.uri), {name: ledger.get(name) for name in (SUMMARY, OUTCOMES)}
    for name, content in files.items():
        if content is None:
            raise UserError(f"{folder} has no {name}; give the --out folder of a finished `evaluate.py bench`")
    try:
        summary = json.loads(files[SUMMARY] or b"")
        lines = [json.loads(line) for line in (files[OUTCOMES] or b"").splitlines()]
        return Result(folder, {"benchmark": summary["benchmark"], **summary}, {line["key"]: line for line in lines})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: {SUMMARY} or {OUTCOMES} is damaged ({error}); run the benchmark again with the same --out"
        ) from None


def common_items(a: Result, b: Result) -> list[str]:
    """Keys of the items that both results have, in the order of A.

    Raises:
        UserError: the results are of different benchmarks or have no item in common.
    """
    if a.summary["benchmark"] != b.summary["benchmark"]:
        raise UserError(
            f"{a.folder} is a result of {a.summary['benchmark']} and {b.folder} of {b.summary['benchmark']}; "
            "give two results of the same benchmark"
        )
    keys = [key for key in a.outcomes if key in b.outcomes]
    if not keys:
        raise UserError(f"{a.folder} and {b.folder} have no item in common; give two results on the same data")
    return keys


def differences(a: Result, b: Result) -> dict[str, Difference]:
    """Differences over all common items (`overall`) and for each group."""
    groups: dict[str, list[str]] = {"overall": []}
    for key in common_items(a, b):
        for group in ("overall", *a.outcomes[key]["groups"]):
            groups.setdefault(group, []).append(key)
    return {
        name: difference(
            [a.outcomes[k]["right"] for k in keys],
            [b.outcomes[k]["right"] for k in keys],
            [a.outcomes[k].get("cluster", k) for k in keys],  # results of earlier versions do not have it
        )
        for name, keys in groups.items()
    }


def difference(a: Sequence[bool], b: Sequence[bool], clusters: Sequence[Hashable]) -> Difference:
    """Difference of two outcomes of the same items.

    Args:
        a: whether A is right, for each item.
        b: the same of B.
        clusters: the cluster of each item, such as its image; only clusters are independent of each other.
    """
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    numbers = repeated(clusters)
    index = np.arange(len(a)) if numbers is None else np.asarray(numbers)
    sizes = np.bincount(index)
    sums = np.bincount(index, np.asarray(b, float) - np.asarray(a, float)).astype(float)
    too_few = len(sizes) < (2 if numbers is None else MIN_CLUSTERS)
    low, high = (-1.0, 1.0) if too_few else _bootstrap_interval(sums, sizes)
    p = _p_value(sums.round().astype(int))
    return Difference(len(a), len(sizes), sum(a) / len(a), sum(b) / len(b), only_a, only_b, p, low, high)


def _p_value(sums: NDArray[np.int_]) -> float:
    """How often the sum over clusters is as far from 0 if the sign of each cluster's difference is a matter of chance.

    With one item in each cluster it is the p-value of the exact two-sided McNemar test.
    """
    distribution: NDArray[Any] = np.ones(1)  # of the sum, from -total to total
    for size, count in zip(*np.unique(abs(sums[sums != 0]), return_counts=True), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, steps)
    distance = abs(int(sums.sum()))
    return min(1.0, 2 * float(distribution[len(distribution) // 2 + distance :].sum())) if distance else 1.0


def _bootstrap_interval(sums: NDArray[np.float64], sizes: NDArray[np.int_]) -> tuple[float, float]:
    """95 % interval of the mean difference of an item.

    Args:
        sums: differences of the items of each cluster, summed, of shape (clusters,).
        sizes: number of items of each cluster.
    """
    result = bootstrap(
        (sums, sizes),
        lambda x, n, axis: x.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _VALUES_PER_BATCH // len(sums)),
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def comparison_table(by_group: Mapping[str, Difference]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the table for the console."""
    rows = [
        [
            name, str(d.n), f"{d.a:.3f}", f"{d.b:.3f}", f"{d.b - d.a:+.3f}", f"[{d.low:+.3f}, {d.high:+.3f}]",
            str(d.only_a), str(d.only_b), f"{d.p:.3g}",
        ]
        for name, d in by_group.items()
    ]  # fmt: skip
    return ["group", "n", "A", "B", "B - A", "95 % interval", "only A right", "only B right", "p"], rows
