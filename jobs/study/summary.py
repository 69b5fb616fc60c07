"""Summary of all finished runs: estimates with 95 % confidence intervals.

Two kinds of intervals are used. `over_seeds` is Student's t interval of the mean over seeds. That of `_paired` also includes the
sampling of benchmark pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from jobs.study.arms import FULL, NOT_RECOLORED, ORACLE, SELF
from jobs.study.results import Results, metric
from vlrm_ray.scenes.bench import HALLUCINATION_GROUP, REASONING_GROUP, kinds_of, new_combinations

HALLUCINATION, REASONING, CONSISTENCY = (
    "hallucination_pair_accuracy",
    "reasoning_pair_accuracy",
    "reasoning_consistency",
)
GROUPS = {HALLUCINATION: HALLUCINATION_GROUP, REASONING: REASONING_GROUP, CONSISTENCY: REASONING_GROUP}
"""The group of pairs that each outcome is computed on."""
LABELS = {"hallucination": HALLUCINATION, "reasoning": REASONING, "consistency": CONSISTENCY}
"""Outcomes by the short names of the tables of differences."""
ROUND_METRICS = (
    HALLUCINATION,
    REASONING,
    CONSISTENCY,
    "against_prior_pair_accuracy",
    "agreeing_with_prior_pair_accuracy",
    "critique_facts_true",
    "critique_follows",
    "critique_right_by_false_facts",
    "ece",
)
"""Metrics that are shown after each round."""
BLIND_METRICS = (
    f"blind_{HALLUCINATION}",
    f"blind_{REASONING}",
    "pick_shorter_accuracy",
    "pick_longer_accuracy",
    "always_first_accuracy",
)
"""Metrics of judges that do not get the image."""
BEST_OF = (
    ("best_of_8_reduction", "random", "1"),
    ("best_of_8_reduction_mean", "random", "8"),
    ("best_of_8_reduction_blind", "blind", "1"),
)
"""Estimates of the best-of-8 test: name, the pick to compare with, and the number of critiques of each response."""
Summary = dict[str, Any]
"""The summary or a part of it, a JSON object."""
Estimate = dict[str, Any]
"""An estimate: its `value` or `difference`, the number `n` of seeds, and `ci95`, the interval's (low, high)."""
Runs = Mapping[int, Mapping[str, Any]]
"""Records of an arm's runs by seed."""


def summarize(results: Results, split: str = "test") -> Summary:
    """Summarize the finished runs, on a split of ScenesBench. Estimates whose runs are missing are left out."""
    full, self_, oracle, not_recolored = (
        {s: results.run(a, s) or {} for s in results.seeds(a)} for a in (FULL, SELF, ORACLE, NOT_RECOLORED)
    )
    summary: Summary = {}
    if full:
        summary["hallucination_gain"] = over_seeds([_gain(r, HALLUCINATION) for r in full.values()])
        summary["reasoning_consistency_gain"] = over_seeds([_gain(r, CONSISTENCY) for r in full.values()])
        summary["hallucination_gain_over_pairs"] = _gain_over_pairs(full, HALLUCINATION)
        summary["reasoning_consistency_gain_over_pairs"] = _gain_over_pairs(full, CONSISTENCY)
        summary["ece"] = over_seeds([metric(r, "ece") for r in full.values()])
        best = [r["best_of"] for r in full.values() if r.get("best_of")]
        for name, pick, votes in BEST_OF:
            found = [b for b in best if b[pick] > 0 and votes in b["votes"]]
            summary[name] = over_seeds([1 - b["votes"][votes] / b[pick] for b in found])
        summary["rounds"] = _by_round(list(full.values()))
        summary["steps"] = _steps(full)
        summary["costs"] = _costs(list(full.values()))
        summary["readers"] = _text_only(list(full.values()))
        summary["prior"] = _prior(list(full.values()), list(self_.values()))
        summary["kinds"] = _by_group(results, kinds_of)
        summary["combinations"] = _by_group(results, lambda group, count: _combinations(split, group, count))
    for name, part, whole in (
        ("oracle_gap_recovered", not_recolored, oracle),  # neither has recolored images
        ("self_labelling_share", self_, full),
    ):
        if seeds := sorted(part.keys() & whole.keys()):
            pairs = [(part[s], whole[s]) for s in seeds]
            summary[name] = _share_of_gain(pairs, HALLUCINATION)
            summary[f"{name}_consistency"] = _share_of_gain(pairs, CONSISTENCY)
    summary["ablations"] = {
        arm: _full_minus(full, {s: results.run(arm, s) or {} for s in results.seeds(arm)})
        for arm in results.arms
        if arm != FULL and full.keys() & set(results.seeds(arm))
    }
    return summary


def _by_round(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Mean over seeds of each of the `ROUND_METRICS`, for the start and after each round."""
    return {
        name: [float(round(np.mean([metric(r, name, i) for r in runs]), 4)) for i in range(len(runs[0]["rounds"]))]
        for name in ROUND_METRICS
    }


def _steps(runs: Runs) -> dict[str, dict[str, Estimate]]:
    """Gain of each round over the one before, of the runs whose every round was judged on the same items."""
    judged = [run for run in runs.values() if "round 1" in run["hits"]]
    if not judged:
        return {}
    last = len(judged[0]["rounds"]) - 1
    names = ["first", *(f"round {number}" for number in range(1, last + 1))]
    return {
        f"round {number} minus {f'round {number - 1}' if number > 1 else 'start'}": {
            label: _paired(
                [_hits(run, name, names[number]) for run in judged],
                [_hits(run, name, names[number - 1]) for run in judged],
            )
            for label, name in LABELS.items()
        }
        for number in range(1, last + 1)
    }


def _costs(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Mean number of pairs and CPU seconds of each stage, by round, of the records that have CPU seconds.

    If none has, the seconds of the clock of those that have these; {} if there are neither.
    """
    for key, suffix in (("cpu_seconds_by_round", "_cpu"), ("seconds_by_round", "")):
        if timed := [run for run in runs if all(run.get(key, [{}]))]:
            pairs = [float(np.mean([run["pairs"][i] for run in timed])) for i in range(len(timed[0][key]))]
            means = _means_by_stage([run[key] for run in timed])
            return {"pairs": pairs} | {f"{stage}{suffix}": values for stage, values in means.items()}
    return {}


def _means_by_stage(runs: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, list[float]]:
    """Means over runs, by stage and round."""
    return {
        stage: [float(round(np.mean([run[i][stage] for run in runs]), 1)) for i in range(len(runs[0]))]
        for stage in runs[0][0]
    }


def _text_only(runs: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Pair accuracy without the image: of the trained reward model, and of four text-only baselines."""
    estimates = {name: over_seeds([metric(r, name) for r in runs]) for name in BLIND_METRICS}
    return estimates | {"bag_of_words": over_seeds([r["bag_of_words"]["value"] for r in runs])}


def _prior(full: Sequence[Mapping[str, Any]], self_: Sequence[Mapping[str, Any]]) -> Summary:
    """Pair accuracy with and against the prior, by noun: at the start, and after the full method and self-labelling."""
    tables_by_column = {
        "start": [r["prior"]["first"] for r in full],
        FULL: [r["prior"]["last"] for r in full],
        SELF: [r["prior"]["last"] for r in self_],
    }
    return {
        noun: {
            column: {
                side: float(round(np.mean([t[noun][side]["value"] for t in tables]), 4)) for side in tables[0][noun]
            }
            for column, tables in tables_by_column.items()
            if tables
        }
        for noun in full[0]["prior"]["first"]
    }


def _combinations(split: str, group: str, count: int) -> list[str]:
    return ["with" if new else "without" for new in new_combinations(split, group, count)]


def _by_group(results: Results, names: Callable[[str, int], Sequence[str]]) -> Summary:
    """Mean outcomes over seeds by groups of pairs: at the start, and after the last round of each arm.

    Args:
        results: the finished runs.
        names: the name of the group of each of the first pairs of a benchmark's group.
    """
    runs = {arm: [results.run(arm, s) or {} for s in results.seeds(arm)] for arm in results.arms}
    rows = {"start": (runs[FULL], "first")} | {arm: (records, "last") for arm, records in runs.items()}
    return {
        outcome: {
            row: _means([_hits(r, outcome, when) for r in records], partial(names, group))
            for row, (records, when) in rows.items()
        }
        for outcome, group in GROUPS.items()
    }


def _means(hits: Sequence[np.ndarray], names: Callable[[int], Sequence[str]]) -> dict[str, float]:
    mean = np.mean(hits, axis=0)
    of_pair = np.array(names(len(mean)))
    return {name: float(round(mean[of_pair == name].mean(), 4)) for name in dict.fromkeys(of_pair.tolist())}


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's t 95 % interval; the interval is (None, None) for a single seed."""
    if not values:
        return {"value": None, "n": 0, "ci95": [None, None]}
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else float("nan")
    low, high = (mean - half, mean + half) if len(values) > 1 else (None, None)
    return {"value": _rounded(mean), "n": len(values), "ci95": [_rounded(low), _rounded(high)]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _gain(run: Mapping[str, Any], name: str) -> float:
    """A metric after the last round minus that at the start."""
    return metric(run, name) - metric(run, name, 0)


def _share_of_gain(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], name: str) -> Estimate:
    """Ratio of the gains of each (part, whole) pair of runs; pairs whose whole has no gain are left out."""
    return over_seeds([_gain(part, name) / gain for part, whole in pairs if (gain := _gain(whole, name)) > 0])


def _gain_over_pairs(runs: Runs, name: str) -> Estimate:
    """The gain with an interval that includes the sampling of the benchmark's pairs, which all seeds share."""
    return _paired([_hits(r, name) for r in runs.values()], [_hits(r, name, "first") for r in runs.values()])


def _full_minus(full: Runs, other: Runs) -> dict[str, Estimate]:
    """Outcomes of the full method minus those of another arm after the last round, on their common seeds."""
    seeds = sorted(full.keys() & other.keys())
    return {
        group: _paired(
            [_hits(full[s], name) for s in seeds],
            [_hits(other[s], name) for s in seeds],
        )
        for group, name in LABELS.items()
    }


def _hits(run: Mapping[str, Any], name: str, when: str = "last") -> np.ndarray:
    """Outcomes of a run's items, 1.0 for a hit and 0.0 for a miss, of shape (items,)."""
    return np.array([bit == "1" for bit in run["hits"][when][name]], float)


def _paired(full: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> Estimate:
    """Mean difference with a 95 % interval over seeds and items, which all seeds share.

    The variance of the mean is that of the seeds' means plus that of the items' means, and the interval is Student's t with
    the degrees of freedom of Satterthwaite (1946): with few seeds that differ it is wide. With one seed it is over items only.

    Args:
        full: outcomes of shape (items,) for each seed.
        other: outcomes that are subtracted, for the same seeds.
    """
    differences = np.stack(full) - np.stack(other)
    parts = [_mean_variance(differences.mean(axis=axis)) for axis in (1, 0)]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts) if variance else 1.0
    half = float(stats.t.ppf(0.975, freedom) * variance**0.5) if variance else 0.0
    value = float(differences.mean())
    return {
        "difference": _rounded(value), "n": len(differences), "ci95": [_rounded(value - half), _rounded(value + half)]
    }  # fmt: skip


def _mean_variance(means: np.ndarray) -> tuple[float, int]:
    """Variance of the mean of independent values, and its degrees of freedom; 0 and 1 for a single value."""
    return (float(means.var(ddof=1)) / len(means), len(means) - 1) if len(means) > 1 else (0.0, 1)
