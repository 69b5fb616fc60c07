"""The study's tables in Markdown, and a page that holds them between marks:

<!-- table: gains -->
...
<!-- end -->
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.study.arms import ARMS
from jobs.study.summary import CONSISTENCY

_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEADLINES = {
    "hallucination_gain": "hallucination pair accuracy, round 3 minus round 0",
    "reasoning_consistency_gain": "reasoning consistency, round 3 minus round 0",
    "hallucination_gain_over_pairs": "the same gain, other pairs drawn as well",
    "reasoning_consistency_gain_over_pairs": "the same consistency gain, other pairs drawn as well",
    "oracle_gap_recovered": "share of the oracle's hallucination gain",
    "oracle_gap_recovered_consistency": "share of the oracle's consistency gain",
    "self_labelling_share": "self-labelling's share of the hallucination gain",
    "self_labelling_share_consistency": "self-labelling's share of the consistency gain",
    "best_of_8_reduction": "best of 8: fewer false claims than a random pick",
    "best_of_8_reduction_blind": "best of 8: fewer false claims than the image-blind pick",
    "ece": "expected calibration error after round 3",
}


def fill(page: str, summary: Mapping[str, Any]) -> str:
    """The page with its marked tables made anew; raises KeyError for a mark that names no table."""
    made = tables(summary)
    return _MARKED.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", page)


def tables(summary: Mapping[str, Any]) -> dict[str, str]:
    """All tables by name."""
    return {
        "gains": _gains(summary),
        "rounds": _rounds(summary.get("rounds", {})),
        "ablations": _ablations(summary.get("ablations", {})),
        "prior": _prior(summary.get("prior", {})),
        "readers": _readers(summary.get("readers", {})),
        "kinds": _kinds(summary.get("kinds", {})),
    }


def _gains(summary: Mapping[str, Any]) -> str:
    rows = [
        [text, headline(name, summary[name]), _n(summary[name])] for name, text in _HEADLINES.items() if name in summary
    ]
    return _table(["", "mean over seeds [95 % interval]", "seeds"], rows)


def _rounds(rounds: Mapping[str, Sequence[float]]) -> str:
    count = max((len(values) for values in rounds.values()), default=1)
    rows = [[name.replace("_", " "), *(f"{v:.3f}" for v in values)] for name, values in rounds.items()]
    return _table(["full method, mean over seeds", "start", *(f"round {i}" for i in range(1, count))], rows)


def _ablations(ablations: Mapping[str, Any]) -> str:
    rows = [
        [arm.replace("_", " "), ARMS[arm].what, *(figure(groups[g]) for g in groups), _n(groups["hallucination"])]
        for arm, groups in ablations.items()
    ]
    return _table(["full method minus", "", "hallucination", "reasoning", "consistency", "seeds"], rows)


def _prior(prior: Mapping[str, Any]) -> str:
    arms = list(next(iter(prior.values()), {}))
    rows = [
        [noun, side.replace("_", " "), *(f"{found[arm][side]:.3f}" for arm in arms)]
        for noun, found in prior.items()
        for side in found[arms[0]]
    ]
    return _table(["pairs about", "the truth is", *(arm.replace("_", " ") for arm in arms)], rows)


def _kinds(kinds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    columns = [(o, kind) for o, rows in kinds.items() for kind in next(iter(rows.values()))]
    head = [f"{kind.replace('_', ' ')}{', consistent' if o == CONSISTENCY else ''}" for o, kind in columns]
    arms = list(next(iter(kinds.values()), {}))
    rows = [[arm.replace("_", " "), *(f"{kinds[o][arm][kind]:.3f}" for o, kind in columns)] for arm in arms]
    return _table(["after the last round", *head], rows)


def _readers(readers: Mapping[str, Any]) -> str:
    return _table(
        ["pair accuracy without looking", "mean over seeds [95 % interval]"],
        [[name.replace("_", " "), figure(f, sign="")] for name, f in readers.items()],
    )


def headline(name: str, found: Mapping[str, Any]) -> str:
    """A headline figure with its interval; gains are differences, shares and errors are not."""
    return figure(found, sign="+" if "_gain" in name else "")


def figure(found: Mapping[str, Any], sign: str = "+") -> str:
    """A figure with its interval, differences with their sign; "-" where there is none."""
    value = found.get("value", found.get("difference"))
    if value is None:
        return "-"
    low, high = found["ci95"]
    shown = f"{value:{sign}.3f}"
    return shown if low is None else f"{shown} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _n(found: Mapping[str, Any]) -> str:
    return str(found["n"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
