"""What a benchmark's judgements add up to, beside the official formula and the trivial baselines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, Row, Status
from vlrm_ray.evaluation.benchmarks.scoring import Judgements, in_order

Summary = dict[str, Any]
STOPS = "script_stops"


def summarise(benchmark: Benchmark, items: Sequence[Item], judged: Judgements, details: Mapping[str, Any]) -> Summary:
    """The content of `summary.json`.

    An item that is unparsed, tied or quarantined counts as wrong here; `official` is the official
    script's formula, which may treat it otherwise. `macro` is the mean over the groups of the
    official split; `position_disagreement` the share of items whose outcome differs between the two
    orders, of those decided in at least one; None unless both were judged.
    """
    judgements = in_order(items, judged)
    right = [judgement.right(item) for item, judgement in zip(items, judgements, strict=True)]
    groups = _groups(items, right)
    main = dict.fromkeys(item.groups[0] for item in items)
    counts = Counter(judgement.status for judgement in judgements)
    return {
        "benchmark": benchmark.name,
        "n": len(items),
        "unparsed": counts[Status.UNPARSED],
        "ties": counts[Status.TIE],
        "groups": groups,
        "overall": _mean(right),
        "macro": round(sum(groups[name]["accuracy"] for name in main) / len(main), 6),
        "baselines": _baselines(items, benchmark.yes_no),
        "position_disagreement": _disagreement(items, judged),
        "official": benchmark.official(predictions(benchmark, items, judged)),
        "details": {
            **details,
            "overall_ci95": _accuracy(right)["ci95"],
            "quarantined": dict(Counter(j.reason for j in judgements if j.status is Status.QUARANTINED)),
            "overall_other_order": _other_order(items, judged),
        },
    }


def predictions(benchmark: Benchmark, items: Sequence[Item], judged: Judgements) -> list[Row]:
    """Rows in the official prediction format, in the file's order."""
    return [benchmark.predict(i, j) for i, j in zip(items, in_order(items, judged), strict=True)]


def outcomes(items: Sequence[Item], judged: Judgements) -> list[Row]:
    """What `compare` reads: for each item its key, groups and whether it was right."""
    return [
        {
            "key": item.key,
            "id": item.item_id,
            "groups": list(item.groups),
            "right": judgement.right(item),
            "status": judgement.status,
            "rewards": list(judgement.rewards),
        }
        for item, judgement in zip(items, in_order(items, judged), strict=True)
    ]


def table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for people."""
    rows = [[name, *_cells(group)] for name, group in summary["groups"].items()]
    overall = {"accuracy": summary["overall"], "n": summary["n"], "ci95": summary["details"]["overall_ci95"]}
    rows += [["overall", *_cells(overall)], ["macro average", f"{summary['macro']:.3f}", "", ""]]
    rows += [[f"baseline: {name.replace('_', ' ')}", f"{v:.3f}", "", ""] for name, v in summary["baselines"].items()]
    for name, value in _flat(summary["official"]):
        if not isinstance(value, str):
            rows.append([f"official: {name}", "-" if value is None else f"{value:.4g}", "", ""])
    if summary["position_disagreement"] is not None:
        rows.append(["position disagreement", f"{summary['position_disagreement']:.3f}", "", ""])
    return ["undecided counts as wrong", "accuracy", "95 % interval", "n"], rows


def stops(summary: Summary) -> list[str]:
    """Where the official script would stop with an error, a line each."""
    return [f"the official script stops: {value}" for name, value in _flat(summary["official"]) if name.endswith(STOPS)]


def _groups(items: Sequence[Item], right: Sequence[bool]) -> dict[str, Row]:
    hits: dict[str, list[bool]] = {}
    for item, hit in zip(items, right, strict=True):
        for group in item.groups:
            hits.setdefault(group, []).append(hit)
    return {name: _accuracy(hits[name]) for name in sorted(hits)}


def _accuracy(hits: Sequence[bool]) -> Row:
    found = metrics.share(hits).as_json()
    return {"accuracy": found["value"], "n": found["n"], "ci95": found["ci95"]}


def _mean(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 6)


def _baselines(items: Sequence[Item], yes_no: bool) -> dict[str, float]:
    """Accuracy without looking: by length (a tie is wrong), by position as shown, and by a fixed word."""
    better = [len(item.answers[item.better]) for item in items]
    worse = [len(item.answers[1 - item.better]) for item in items]
    found = {
        "pick_shorter": _mean([b < w for b, w in zip(better, worse, strict=True)]),
        "pick_longer": _mean([b > w for b, w in zip(better, worse, strict=True)]),
        "always_first": _mean([item.better == item.first for item in items]),
    }
    words = {"always_yes": _mean([i.better == 0 for i in items]), "always_no": _mean([i.better == 1 for i in items])}
    return found | (words if yes_no else {})


def _swapped(items: Sequence[Item], judged: Judgements) -> list[Judgement] | None:
    found = [judged.get((item.key, 1 - item.first)) for item in items]
    return [j for j in found if j is not None] if None not in found else None


def _disagreement(items: Sequence[Item], judged: Judgements) -> float | None:
    swapped = _swapped(items, judged)
    if swapped is None:
        return None
    picks = [(a.pick, b.pick) for a, b in zip(in_order(items, judged), swapped, strict=True)]
    decided = [a != b for a, b in picks if (a, b) != (None, None)]
    return _mean(decided) if decided else None


def _other_order(items: Sequence[Item], judged: Judgements) -> float | None:
    swapped = _swapped(items, judged)
    return None if swapped is None else _mean([j.right(i) for i, j in zip(items, swapped, strict=True)])


def _cells(group: Row) -> list[str]:
    low, high = group["ci95"]
    return [f"{group['accuracy']:.3f}", f"[{low:.3f}, {high:.3f}]", str(group["n"])]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else [(prefix + name, value)]
    return found
