"""Two results on the same items: who is right where the other is not, and how sure the difference is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap

from vlrm_ray.errors import UserError

SUMMARY, OUTCOMES = "summary.json", "items.jsonl"
_RESAMPLES = 9999
_AT_ONCE = 1 << 22  # resampled values in memory at a time


@dataclass(frozen=True)
class Result:
    """A finished benchmark: its summary, and each item's outcome by key."""

    folder: Path
    summary: Mapping[str, Any]
    outcomes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """B minus A on common items.

    Attributes:
        only_a, only_b: items that one alone has right.
        p: exact two-sided McNemar test: `only_b` of the discordant items against a fair coin.
        low, high: 95 % interval of the accuracy's difference, percentile bootstrap over paired items.
    """

    n: int
    a: float
    b: float
    only_a: int
    only_b: int
    p: float
    low: float
    high: float


def load(place: Path) -> Result:
    """A result's folder, or the summary in it; raises UserError."""
    folder = place.parent if place.is_file() else place
    for name in (SUMMARY, OUTCOMES):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}; give a folder that `evaluate.py bench --out` has finished")
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        lines = [json.loads(line) for line in (folder / OUTCOMES).read_text().splitlines()]
        return Result(folder, {"benchmark": summary["benchmark"], **summary}, {line["key"]: line for line in lines})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: {SUMMARY} or {OUTCOMES} is damaged ({error}); run the benchmark again") from None


def common(a: Result, b: Result) -> list[str]:
    """Keys of the items that both have, in order; raises UserError where nothing can be compared."""
    if a.summary["benchmark"] != b.summary["benchmark"]:
        raise UserError(
            f"{a.folder} is {a.summary['benchmark']} and {b.folder} is {b.summary['benchmark']}: "
            "compare two results of one benchmark"
        )
    keys = [key for key in a.outcomes if key in b.outcomes]
    if not keys:
        raise UserError(f"{a.folder} and {b.folder} have no item in common: were they made from the same data?")
    return keys


def differences(a: Result, b: Result) -> dict[str, Difference]:
    """Of all common items, and of each group."""
    groups: dict[str, list[str]] = {"overall": []}
    for key in common(a, b):
        for group in ("overall", *a.outcomes[key]["groups"]):
            groups.setdefault(group, []).append(key)
    return {
        name: difference([a.outcomes[k]["right"] for k in keys], [b.outcomes[k]["right"] for k in keys])
        for name, keys in groups.items()
    }


def difference(a: list[bool], b: list[bool]) -> Difference:
    """Exact McNemar test (McNemar 1947, binomial form) and paired bootstrap, its seed fixed."""
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    p = float(binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0
    low, high = _interval(np.asarray(a, float), np.asarray(b, float))
    return Difference(len(a), sum(a) / len(a), sum(b) / len(b), only_a, only_b, p, low, high)


def _interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    if len(a) < 2:
        return -1.0, 1.0
    found = bootstrap(
        (a, b),
        lambda x, y, axis: (y - x).mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // len(a)),
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def table(found: Mapping[str, Difference]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for people."""
    rows = [
        [
            name, str(d.n), f"{d.a:.3f}", f"{d.b:.3f}", f"{d.b - d.a:+.3f}", f"[{d.low:+.3f}, {d.high:+.3f}]",
            str(d.only_a), str(d.only_b), f"{d.p:.3g}",
        ]
        for name, d in found.items()
    ]  # fmt: skip
    return ["", "n", "A", "B", "B - A", "95 % interval", "only A right", "only B right", "McNemar p"], rows
