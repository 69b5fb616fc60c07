"""`summary.json` of a benchmark: accuracies by group, the official metrics and model-free baselines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, Row, Status
from vlrm_ray.evaluation.benchmarks.scoring import Judgements, primary_judgements
from vlrm_ray.evaluation.clusters import clustered_share
from vlrm_ray.evaluation.pairs import by_length

Summary = dict[str, Any]
STOPS = "script_stops"


def build_summary(
    benchmark: Benchmark, items: Sequence[Item], judged: Judgements, details: Mapping[str, Any]
) -> Summary:
    """The content of `summary.json`.

    `groups` and `overall` hold accuracies over all items: an item that is unparsed, tied or quarantined counts as
    wrong. `by_length` holds those of the items whose better answer is the shorter or the longer one; it is empty for Yes/No
    questions. `macro` is the mean over the groups of the official split. `official` holds the metrics of the official
    script, which may treat undecided items differently. `position_disagreement` is the share of items whose outcome
    differs between the two orders, of the items that are decided in at least one order; None unless both orders were
    judged.
    """
    judgements = primary_judgements(items, judged)
    correct = [judgement.is_correct(item) for item, judgement in zip(items, judgements, strict=True)]
    groups = _groups(items, correct)
    main_groups = dict.fromkeys(item.groups[0] for item in items)
    counts = Counter(judgement.status for judgement in judgements)
    return {
        "benchmark": benchmark.name,
        "n": len(items),
        "unparsed": counts[Status.UNPARSED],
        "ties": counts[Status.TIE],
        "groups": groups,
        "by_length": {} if benchmark.yes_no else _by_length(items, correct),
        "overall": _mean(correct),
        "macro": round(sum(groups[name]["accuracy"] for name in main_groups) / len(main_groups), 6),
        "baselines": _baselines(items, benchmark.yes_no),
        "position_disagreement": _disagreement(items, judged),
        "official": benchmark.official(prediction_rows(benchmark, items, judged)),
        "details": {
            **details,
            "overall_ci95": _accuracy(items, correct)["ci95"],
            "quarantined": dict(Counter(j.reason for j in judgements if j.status is Status.QUARANTINED)),
            "overall_other_order": _other_order(items, judged),
        },
    }


def prediction_rows(benchmark: Benchmark, items: Sequence[Item], judged: Judgements) -> list[Row]:
    """Rows in the official prediction format, in the order of the file."""
    return [benchmark.predict(i, j) for i, j in zip(items, primary_judgements(items, judged), strict=True)]


def outcome_rows(items: Sequence[Item], judged: Judgements) -> list[Row]:
    """Rows of `items.jsonl`, which `compare` reads: key, groups, image, correctness, status and rewards of each item."""
    return [
        {
            "key": item.key,
            "id": item.item_id,
            "groups": list(item.groups),
            "cluster": item.cluster,
            "right": judgement.is_correct(item),
            "status": judgement.status,
            "rewards": list(judgement.rewards),
        }
        for item, judgement in zip(items, primary_judgements(items, judged), strict=True)
    ]


def summary_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the table for the console."""
    rows = [[name, *_cells(group)] for name, group in summary["groups"].items()]
    rows += [[f"better answer is {side}", *_cells(part)] for side, part in summary["by_length"].items()]
    overall = {"accuracy": summary["overall"], "n": summary["n"], "ci95": summary["details"]["overall_ci95"]}
    rows += [["overall", *_cells(overall)], ["macro average", f"{summary['macro']:.3f}", "", ""]]
    rows += [[f"baseline: {name.replace('_', ' ')}", f"{v:.3f}", "", ""] for name, v in summary["baselines"].items()]
    for name, value in _flatten(summary["official"]):
        if not isinstance(value, str):
            rows.append([f"official: {name}", "-" if value is None else f"{value:.4g}", "", ""])
    if summary["position_disagreement"] is not None:
        rows.append(["position disagreement", f"{summary['position_disagreement']:.3f}", "", ""])
    return ["undecided items count as wrong", "accuracy", "95 % interval", "n"], rows


def script_errors(summary: Summary) -> list[str]:
    """One line for each error with which the official script would stop on these predictions."""
    return [
        f"the official script would stop with {value}"
        for name, value in _flatten(summary["official"])
        if name.endswith(STOPS)
    ]


def _groups(items: Sequence[Item], correct: Sequence[bool]) -> dict[str, Row]:
    names = sorted({group for item in items for group in item.groups})
    return {name: _accuracy(items, correct, [name in item.groups for item in items]) for name in names}


def _by_length(items: Sequence[Item], correct: Sequence[bool]) -> dict[str, Row]:
    picked = by_length(item.better_and_worse for item in items)
    sides = {"shorter": picked["pick_shorter"], "longer": picked["pick_longer"]}
    return {name: _accuracy(items, correct, side) for name, side in sides.items() if any(side)}


def _accuracy(items: Sequence[Item], correct: Sequence[bool], inside: Sequence[bool] | None = None) -> Row:
    """Accuracy on all items, or on those inside; items about one image are not taken for independent."""
    chosen = [True] * len(items) if inside is None else inside
    clusters = [item.cluster for item in compress(items, chosen)]
    metric = clustered_share(list(compress(correct, chosen)), clusters).as_json()
    return {"accuracy": metric["value"], "n": metric["n"], "ci95": metric["ci95"]}


def _mean(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 6)


def _baselines(items: Sequence[Item], yes_no: bool) -> dict[str, float]:
    """Accuracies without a model: by length in characters (a tie is wrong), by position shown, and by a fixed word."""
    lengths = by_length(item.better_and_worse for item in items)
    baselines = {name: _mean(hits) for name, hits in lengths.items()} | {
        "always_first": _mean([item.better == item.first for item in items]),
    }
    words = {"always_yes": _mean([i.better == 0 for i in items]), "always_no": _mean([i.better == 1 for i in items])}
    return baselines | (words if yes_no else {})


def _swapped_judgements(items: Sequence[Item], judged: Judgements) -> list[Judgement] | None:
    """The judgement of each item in the opposite order; None unless all items have one."""
    judgements = [judged.get((item.key, 1 - item.first)) for item in items]
    return [j for j in judgements if j is not None] if None not in judgements else None


def _disagreement(items: Sequence[Item], judged: Judgements) -> float | None:
    swapped = _swapped_judgements(items, judged)
    if swapped is None:
        return None
    picks = [(a.pick, b.pick) for a, b in zip(primary_judgements(items, judged), swapped, strict=True)]
    differs = [a != b for a, b in picks if (a, b) != (None, None)]
    return _mean(differs) if differs else None


def _other_order(items: Sequence[Item], judged: Judgements) -> float | None:
    swapped = _swapped_judgements(items, judged)
    return None if swapped is None else _mean([j.is_correct(i) for i, j in zip(items, swapped, strict=True)])


def _cells(group: Row) -> list[str]:
    low, high = group["ci95"]
    return [f"{group['accuracy']:.3f}", f"[{low:.3f}, {high:.3f}]", str(group["n"])]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flatten(value, f"{prefix}{name} ") if isinstance(value, dict) else [(prefix + name, value)]
    return flat
