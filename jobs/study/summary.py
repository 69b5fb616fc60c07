"""What all runs say together, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from jobs.study.arms import FULL, ORACLE, SELF
from jobs.study.results import Results, metric
from vlrm_ray.scenes.bench import HALLUCINATION_GROUP, REASONING_GROUP, kinds_of

HALLUCINATION, REASONING, CONSISTENCY = (
    "hallucination_pair_accuracy",
    "reasoning_pair_accuracy",
    "reasoning_consistency",
)
GROUPS = {HALLUCINATION: HALLUCINATION_GROUP, REASONING: REASONING_GROUP, CONSISTENCY: REASONING_GROUP}
"""Of which pairs each outcome is."""
FOLLOWED = (
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
BLIND = (
    f"blind_{HALLUCINATION}",
    f"blind_{REASONING}",
    "pick_shorter_accuracy",
    "pick_longer_accuracy",
    "always_first_accuracy",
)
DRAWS = 2000
Figure = dict[str, Any]
Runs = Mapping[int, Mapping[str, Any]]


def summarize(results: Results) -> Figure:
    """The summary of whatever has finished; figures without their runs are left out."""
    full, self_, oracle = ({s: results.run(a, s) or {} for s in results.seeds(a)} for a in (FULL, SELF, ORACLE))
    found: Figure = {}
    if full:
        found["hallucination_gain"] = over_seeds([_gain(r, HALLUCINATION) for r in full.values()])
        found["reasoning_consistency_gain"] = over_seeds([_gain(r, CONSISTENCY) for r in full.values()])
        found["hallucination_gain_over_pairs"] = _gain_over_pairs(full, HALLUCINATION)
        found["reasoning_consistency_gain_over_pairs"] = _gain_over_pairs(full, CONSISTENCY)
        found["ece"] = over_seeds([metric(r, "ece") for r in full.values()])
        best = [r["best_of"] for r in full.values() if r.get("best_of")]
        for name, pick in (("best_of_8_reduction", "random"), ("best_of_8_reduction_blind", "blind")):
            found[name] = over_seeds([1 - b["votes"]["1"] / b[pick] for b in best if b[pick] > 0])
        found["rounds"] = _by_round(list(full.values()))
        found["readers"] = _readers(list(full.values()))
        found["prior"] = _prior(list(full.values()), list(self_.values()))
        found["kinds"] = _kinds(results)
    for name, arm, whole in (
        ("oracle_gap_recovered", full, oracle),
        ("self_labelling_share", self_, full),
    ):
        if both := sorted(arm.keys() & whole.keys()):
            pairs = [(arm[s], whole[s]) for s in both]
            found[name] = _share(pairs, HALLUCINATION)
            found[f"{name}_consistency"] = _share(pairs, CONSISTENCY)
    found["ablations"] = {
        arm: _against(full, {s: results.run(arm, s) or {} for s in results.seeds(arm)})
        for arm in results.content["arms"]
        if arm != FULL and full.keys() & set(results.seeds(arm))
    }
    return found


def _by_round(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Means over seeds of what a reader follows from round to round."""
    return {
        name: [float(round(np.mean([metric(r, name, i) for r in runs]), 4)) for i in range(len(runs[0]["rounds"]))]
        for name in FOLLOWED
    }


def _readers(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """How well one judges without looking: the trained model without the image, and four that only read."""
    found = {name: over_seeds([metric(r, name) for r in runs]) for name in BLIND}
    return found | {"bag_of_words": over_seeds([r["bag_of_words"]["value"] for r in runs])}


def _prior(full: Sequence[Mapping[str, Any]], self_: Sequence[Mapping[str, Any]]) -> Figure:
    """Pair accuracy by what the pair is about, the truth being as usual or not: at the start, and after two methods."""
    columns = {
        "start": [r["prior"]["first"] for r in full],
        FULL: [r["prior"]["last"] for r in full],
        SELF: [r["prior"]["last"] for r in self_],
    }
    return {
        noun: {
            arm: {side: float(round(np.mean([t[noun][side]["value"] for t in tables]), 4)) for side in tables[0][noun]}
            for arm, tables in columns.items()
            if tables
        }
        for noun in full[0]["prior"]["first"]
    }


def _kinds(results: Results) -> Figure:
    """Outcomes by kind of question, mean over an arm's seeds: at the start, and after the last round of each arm."""
    runs = {arm: [results.run(arm, s) or {} for s in results.seeds(arm)] for arm in results.content["arms"]}
    rows = {"start": (runs[FULL], "first")} | {arm: (found, "last") for arm, found in runs.items()}
    return {
        outcome: {row: _by_kind([_bits(r, outcome, when) for r in found], group) for row, (found, when) in rows.items()}
        for outcome, group in GROUPS.items()
    }


def _by_kind(seeds: Sequence[np.ndarray], group: str) -> dict[str, float]:
    mean = np.mean(seeds, axis=0)
    kinds = np.array(kinds_of(group, len(mean)))
    return {kind: float(round(mean[kinds == kind].mean(), 4)) for kind in dict.fromkeys(kinds.tolist())}


def over_seeds(values: Sequence[float]) -> Figure:
    """Mean over seeds with its 95 % interval by Student's t; without spread for a single seed."""
    if not values:
        return {"value": None, "n": 0, "ci95": [None, None]}
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else float("nan")
    low, high = (mean - half, mean + half) if len(values) > 1 else (None, None)
    return {"value": _short(mean), "n": len(values), "ci95": [_short(low), _short(high)]}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _gain(run: Mapping[str, Any], name: str) -> float:
    return metric(run, name) - metric(run, name, 0)


def _share(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], name: str) -> Figure:
    """Each first run's gain as a share of the second's; a second that gained nothing has no shares."""
    return over_seeds([_gain(part, name) / gain for part, whole in pairs if (gain := _gain(whole, name)) > 0])


def _gain_over_pairs(runs: Runs, name: str) -> Figure:
    """The gain with an interval that knows of the bench's sample of pairs too, which seeds share."""
    return _paired([_bits(r, name) for r in runs.values()], [_bits(r, name, "first") for r in runs.values()])


def _against(full: Runs, other: Runs) -> dict[str, Figure]:
    """Full method minus the arm after the last round."""
    seeds = sorted(full.keys() & other.keys())
    return {
        group: _paired(
            [_bits(full[s], name) for s in seeds],
            [_bits(other[s], name) for s in seeds],
        )
        for group, name in (("hallucination", HALLUCINATION), ("reasoning", REASONING), ("consistency", CONSISTENCY))
    }


def _bits(run: Mapping[str, Any], name: str, when: str = "last") -> np.ndarray:
    return np.array([bit == "1" for bit in run["hits"][when][name]], float)


def _paired(full: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> Figure:
    """Paired bootstrap over seeds and items; all seeds judge the same items, so they are drawn for all at once."""
    differences = np.stack(full) - np.stack(other)
    seeds, items = differences.shape
    rng = np.random.default_rng(0)
    draws = [
        differences[rng.integers(0, seeds, seeds)].mean(axis=0)[rng.integers(0, items, items)].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    value = float(differences.mean())
    return {"difference": _short(value), "n": seeds, "ci95": [_short(float(low)), _short(float(high))]}
