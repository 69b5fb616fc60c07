"""The study's summary as Markdown tables, inserted into pages between marks:

<!-- table: gains -->
...
<!-- end -->
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.study.arms import ARMS
from jobs.study.summary import CONSISTENCY

_HEADLINES = {
    "hallucination_gain": "hallucination pair accuracy, round 3 minus round 0",
    "reasoning_consistency_gain": "reasoning consistency, round 3 minus round 0",
    "hallucination_gain_over_pairs": "hallucination gain, interval over seeds and pairs",
    "reasoning_consistency_gain_over_pairs": "consistency gain, interval over seeds and pairs",
    "oracle_gap_recovered": "hallucination gain without recolored images as a share of the oracle's",
    "oracle_gap_recovered_consistency": "consistency gain without recolored images as a share of the oracle's",
    "self_labelling_share": "hallucination gain of self-labelling as a share of the method's",
    "self_labelling_share_consistency": "consistency gain of self-labelling as a share of the method's",
    "best_of_8_reduction": "best of 8: reduction of false claims against a random pick",
    "best_of_8_reduction_mean": "the same, picked by the mean reward of 8 critiques",
    "best_of_8_reduction_blind": "best of 8: reduction of false claims against the pick without the image",
    "ece": "expected calibration error after round 3",
}


def fill(page: str, summary: Mapping[str, Any]) -> str:
    """Replace the marked tables of a page by those of the summary; raises KeyError for an unknown table name."""
    made = tables(summary)
    marked = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return marked.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", page)


def tables(summary: Mapping[str, Any]) -> dict[str, str]:
    """All tables in Markdown, by name."""
    return {
        "gains": _gains(summary),
        "rounds": _rounds(summary.get("rounds", {})),
        "steps": _steps(summary.get("steps", {})),
        "costs": _costs(summary.get("costs", {})),
        "ablations": _ablations(summary.get("ablations", {})),
        "prior": _prior(summary.get("prior", {})),
        "readers": _text_only(summary.get("readers", {})),
        "kinds": _kinds(summary.get("kinds", {})),
        "combinations": _combinations(summary.get("combinations", {})),
    }


def _gains(summary: Mapping[str, Any]) -> str:
    rows = [
        [text, format_headline(name, summary[name]), _n(summary[name])]
        for name, text in _HEADLINES.items()
        if name in summary
    ]
    return _table(["", "mean over seeds [95 % interval]", "seeds"], rows)


def _rounds(rounds: Mapping[str, Sequence[float]]) -> str:
    count = max((len(values) for values in rounds.values()), default=1)
    rows = [[_words(name), *(f"{v:.3f}" for v in values)] for name, values in rounds.items()]
    return _table(["full method, mean over seeds", "start", *(f"round {i}" for i in range(1, count))], rows)


def _steps(steps: Mapping[str, Any]) -> str:
    rows = [
        [name, *map(format_estimate, groups.values()), _n(groups["hallucination"])] for name, groups in steps.items()
    ]
    return _table(["gain", "hallucination", "reasoning", "consistency", "seeds"], rows)


def _costs(costs: Mapping[str, Sequence[float]]) -> str:
    """Pairs, seconds and CPU seconds of each round."""
    stages = {"select": "generate to select", "train": "train", "evaluate": "evaluate"}
    names = {"pairs": "pairs kept"} | {stage: f"{text}, s" for stage, text in stages.items()}
    names |= {f"{stage}_cpu": f"{text}, CPU s" for stage, text in stages.items()}
    rows = [[text, *(f"{value:.0f}" for value in costs[name])] for name, text in names.items() if name in costs]
    count = max((len(values) for values in costs.values()), default=0)
    return _table(["mean over seeds", *(f"round {i}" for i in range(1, count + 1))], rows)


def _ablations(ablations: Mapping[str, Any]) -> str:
    rows = [
        [
            _words(arm),
            ARMS[arm].description,
            *(format_estimate(groups[g]) for g in groups),
            _n(groups["hallucination"]),
        ]
        for arm, groups in ablations.items()
    ]
    return _table(["full method minus", "", "hallucination", "reasoning", "consistency", "seeds"], rows)


def _prior(prior: Mapping[str, Any]) -> str:
    columns = list(next(iter(prior.values()), {}))
    rows = [
        [noun, _words(side), *(f"{values[column][side]:.3f}" for column in columns)]
        for noun, values in prior.items()
        for side in values[columns[0]]
    ]
    return _table(["pairs about", "the truth is", *map(_words, columns)], rows)


def _kinds(kinds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    return _by_group(kinds, lambda outcome, kind: f"{_words(kind)}{', consistent' if outcome == CONSISTENCY else ''}")


def _combinations(combinations: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    return _by_group(combinations, lambda outcome, side: f"{_words(outcome).removesuffix(' pair accuracy')}, {side}")


def _by_group(outcomes: Mapping[str, Mapping[str, Mapping[str, float]]], head: Callable[[str, str], str]) -> str:
    """Table of each arm's outcomes by groups of pairs; `head` names the column of an outcome and a group."""
    columns = [(outcome, group) for outcome, rows in outcomes.items() for group in next(iter(rows.values()))]
    arms = list(next(iter(outcomes.values()), {}))
    rows = [[_words(arm), *(f"{outcomes[outcome][arm][group]:.3f}" for outcome, group in columns)] for arm in arms]
    return _table(["after the last round", *(head(*column) for column in columns)], rows)


def _text_only(estimates: Mapping[str, Any]) -> str:
    return _table(
        ["pair accuracy without the image", "mean over seeds [95 % interval]"],
        [[_words(name), format_estimate(estimate, sign="")] for name, estimate in estimates.items()],
    )


def format_headline(name: str, estimate: Mapping[str, Any]) -> str:
    """Format an estimate of the summary by its name: gains get a sign, shares and errors do not."""
    return format_estimate(estimate, sign="+" if "_gain" in name else "")


def format_estimate(estimate: Mapping[str, Any], sign: str = "+") -> str:
    """Format an estimate with its interval.

    Args:
        estimate: a `summary.Estimate`.
        sign: "+" to show the sign of positive numbers, or "".

    Returns:
        Text such as "+0.172 [+0.157, +0.188]"; "-" without a value.
    """
    value = estimate.get("value", estimate.get("difference"))
    if value is None:
        return "-"
    low, high = estimate["ci95"]
    text = f"{value:{sign}.3f}"
    return text if low is None else f"{text} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _n(estimate: Mapping[str, Any]) -> str:
    return str(estimate["n"])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
