"""Paired comparison of two results on the same items, with a significance test and a confidence interval."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap

from vlrm_ray.errors import UserError
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
        a, b: accuracy of A and of B on them.
        only_a, only_b: number of items that only A, or only B, has right.
        p: p-value of the exact two-sided McNemar test: `only_b` of the `only_a + only_b` discordant items against
            a binomial distribution with probability 1/2.
        low, high: 95 % interval of the difference in accuracy, B minus A; percentile bootstrap over paired items.
    """

    n: int
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
        name: difference([a.outcomes[k]["right"] for k in keys], [b.outcomes[k]["right"] for k in keys])
        for name, keys in groups.items()
    }


def difference(a: list[bool], b: list[bool]) -> Difference:
    """Difference of two outcomes of the same items: exact McNemar test (McNemar 1947) and bootstrap with fixed seed."""
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    p = float(binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0
    low, high = _bootstrap_interval(np.asarray(a, float), np.asarray(b, float))
    return Difference(len(a), sum(a) / len(a), sum(b) / len(b), only_a, only_b, p, low, high)


def _bootstrap_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of b - a, both of shape (n,)."""
    if len(a) < 2:
        return -1.0, 1.0
    result = bootstrap(
        (a, b),
        lambda x, y, axis: (y - x).mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _VALUES_PER_BATCH // len(a)),
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
    return ["group", "n", "A", "B", "B - A", "95 % interval", "only A right", "only B right", "McNemar p"], rows
