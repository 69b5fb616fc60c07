"""The page's tables, from `report.json` alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrm_ray.report.words import percent, plain, signed

Facts = Mapping[str, Any]
GATHERED = ("generate", "verify", "pair", "critique", "select")
_UNITS = {"generate": "responses", "verify": "responses", "pair": "responses in pairs", "critique": "critiques", "select": "pairs", "train": "pairs"}  # fmt: skip
HEADINGS = {"hallucination_pair_accuracy": "Hallucination pairs", "reasoning_pair_accuracy": "Reasoning pairs"}
FIGURES = {
    "hallucination_pair_accuracy": "hallucination pairs",
    "blind_hallucination_pair_accuracy": "hallucination pairs, image removed",
    "reasoning_pair_accuracy": "reasoning pairs",
    "blind_reasoning_pair_accuracy": "reasoning pairs, image removed",
    "agreeing_with_prior_pair_accuracy": "pairs whose truth is what is usual",
    "against_prior_pair_accuracy": "pairs whose lie is what is usual",
    "reasoning_consistency": "reasoning consistency",
    "critique_facts_true": "critiques that state only facts",
    "critique_follows": "critiques whose judgement follows from what they state",
    "critique_right_by_false_facts": "right judgements from false facts (lower is better)",
    "critique_readable": "critiques with a judgement",
    "pointwise_balanced_accuracy": "single responses, balanced accuracy",
    "pointwise_f1": "single responses, F1",
    "ece": "calibration error (lower is better)",
    "ece_uncalibrated": "calibration error before calibration",
    "pick_shorter_accuracy": "baseline: pick the shorter",
    "pick_longer_accuracy": "baseline: pick the longer",
    "always_first_accuracy": "baseline: pick the first",
}
"""Headings of figures over the whole bench; one that is not listed here is shown under its own name."""


@dataclass(frozen=True)
class Cell:
    """One cell: text, a smaller note, a tone (good, bad, quiet or none), and a share that a bar shows."""

    text: str
    note: str = ""
    tone: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Line:
    """A row of a table with its heading; `inner` rows detail the one above."""

    name: str
    cells: Sequence[Cell]
    inner: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption for everybody."""

    caption: str
    columns: Sequence[str]
    lines: Sequence[Line]


def round_name(number: int) -> str:
    """What a round is called on the page."""
    return "start" if number == 0 else f"round {number}"


def metrics_table(rounds: Sequence[Facts], names: Mapping[str, str], caption: str, change: bool = True) -> Table | None:
    """Metrics by round, each with N and interval in percent; `names` gives each metric's heading."""
    measured = [r for r in rounds if any(name in r["metrics"] for name in names)]
    lines = []
    for metric_name, heading in names.items():
        found = [r["metrics"].get(metric_name) for r in measured]
        if any(found):
            cells = [_metric(metric) for metric in found]
            sizes = sorted({metric["n"] for metric in found if metric})
            name = f"{heading}, N {'–'.join(map(str, sizes))}"
            lines.append(Line(name, [*cells, _change(found)] if change and len(measured) > 1 else cells))
    columns = [round_name(r["round"]) for r in measured]
    return Table(caption, [*columns, "change"] if change and len(measured) > 1 else columns, lines) if lines else None


def kinds(rounds: Sequence[Facts]) -> dict[str, str]:
    """Pair accuracies by kind of question, under their headings."""
    found = [
        n for n in _names(rounds) if n.endswith("_pair_accuracy") and n not in FIGURES and not n.startswith("pope_")
    ]
    return {name: plain(name.removesuffix("_pair_accuracy")) for name in found}


def figures(rounds: Sequence[Facts]) -> dict[str, str]:
    """All other metrics, under their headings."""
    apart = kinds(rounds) | pope(rounds)
    return FIGURES | {name: plain(name) for name in _names(rounds) if name not in FIGURES and name not in apart}


def pope(rounds: Sequence[Facts]) -> dict[str, str]:
    """Metrics of a POPE set, where a run has them."""
    return {name: plain(name.removeprefix("pope_")) for name in _names(rounds) if name.startswith("pope_")}


def _names(rounds: Sequence[Facts]) -> list[str]:
    return list(dict.fromkeys(name for r in rounds for name in r["metrics"]))


def _metric(metric: Facts | None) -> Cell:
    if not metric:
        return Cell("–", tone="quiet")
    low, high = metric["ci95"]
    return Cell(percent(metric["value"]), f"{100 * low:.0f}–{100 * high:.0f}")


def _change(found: Sequence[Facts | None]) -> Cell:
    known = [metric for metric in found if metric]
    if len(known) < 2:
        return Cell("–", tone="quiet")
    points = 100 * (known[-1]["value"] - known[0]["value"])
    apart = known[-1]["ci95"][0] > known[0]["ci95"][1] or known[-1]["ci95"][1] < known[0]["ci95"][0]
    return Cell(signed(points), "intervals apart" if apart else "", "" if apart else "quiet")


def rows_table(rounds: Sequence[Facts]) -> Table | None:
    """Where the rows of each stage went: kept of how many, and every reason for a drop or quarantine."""
    gathered = [r for r in rounds if r["rows"]]
    lines: list[Line] = []
    for stage in (*GATHERED, "train"):
        tallies = [r["rows"].get(stage) for r in gathered]
        if not any(tallies):
            continue
        lines.append(Line(f"{stage}: {_UNITS[stage]} kept", [_kept(row_counts) for row_counts in tallies]))
        for fate in ("dropped", "quarantined"):
            for reason in sorted({reason for row_counts in tallies if row_counts for reason in row_counts[fate]}):
                cells = [_lost(row_counts, fate, reason) for row_counts in tallies]
                lines.append(Line(f"{fate}: {plain(reason)}", cells, inner=True))
    columns = [round_name(r["round"]) for r in gathered]
    return Table("Rows kept, dropped and quarantined by stage", columns, lines) if lines else None


def _kept(row_counts: Facts | None) -> Cell:
    if not row_counts:
        return Cell("–", tone="quiet")
    return Cell(
        f"{row_counts['kept']:,}",
        f"of {row_counts['in']:,}",
        share=row_counts["kept"] / row_counts["in"] if row_counts["in"] else 0.0,
    )


def _lost(row_counts: Facts | None, fate: str, reason: str) -> Cell:
    count = row_counts[fate].get(reason, 0) if row_counts else 0
    return Cell(f"{count:,}", tone="quiet" if not count else "")


def seconds_table(rounds: Sequence[Facts]) -> Table | None:
    """Seconds by stage."""
    stages = dict.fromkeys(stage for r in rounds for stage in r["seconds"])
    order = [s for s in ("gather", *GATHERED, "train", "publish", "evaluate") if s in stages]
    names = {"gather": "gather (wall time of the five below)"}
    lines = [Line(names.get(s, s), [_seconds(r["seconds"].get(s)) for r in rounds], inner=s in GATHERED) for s in order]
    return Table("Seconds by stage", [round_name(r["round"]) for r in rounds], lines) if lines else None


def actors_table(rounds: Sequence[Facts]) -> Table | None:
    """Seconds that each actor of the streaming stages was at work."""
    gathered = [r for r in rounds if any(actor not in r["seconds"] for actor in r.get("busy", {}))]
    actors = dict.fromkeys(a for r in gathered for a in r["busy"] if a not in r["seconds"] or a in GATHERED)
    lines = [Line(plain(a), [_seconds(r["busy"].get(a)) for r in gathered]) for a in actors]
    columns = [round_name(r["round"]) for r in gathered]
    return Table("Seconds each streaming actor or stage was at work", columns, lines) if lines else None


def _seconds(seconds: float | None) -> Cell:
    return Cell("–", tone="quiet") if seconds is None else Cell(f"{seconds:,.1f}")


def verdicts_table(rounds: Sequence[Facts]) -> Table | None:
    """What the experts said of the claims of all rounds, by claim type."""
    counts: dict[str, dict[str, int]] = {}
    for found in rounds:
        for kind, verdicts in found.get("statistics", {}).get("claims", {}).items():
            for verdict, count in verdicts.items():
                counts.setdefault(kind, {}).setdefault(verdict, 0)
                counts[kind][verdict] += count
    columns = ("supported", "contradicted", "unverifiable")
    lines = [
        Line(plain(kind), [Cell(f"{sum(found.values()):,}"), *(_part(found, verdict) for verdict in columns)])
        for kind, found in counts.items()
    ]
    return Table("Claims of all rounds by type and verdict", ["claims", *columns], lines) if lines else None


def _part(counts: Mapping[str, int], verdict: str) -> Cell:
    count, total = counts.get(verdict, 0), sum(counts.values())
    return Cell(percent(count / total) if total else "–", f"{count:,}", verdict, count / total if total else None)


def pairs_table(rounds: Sequence[Facts]) -> Table | None:
    """Pairs made and kept by how their rejected response was made."""
    gathered = [r for r in rounds if r.get("statistics", {}).get("pairs")]
    hows = dict.fromkeys(condition for r in gathered for condition in r["statistics"]["pairs"])
    names = {"full": "whole image", "image_free": "no image", "image_degraded": "degraded image"}
    lines = [
        Line(names.get(condition, plain(condition)), [_made(r["statistics"]["pairs"].get(condition)) for r in gathered])
        for condition in hows
    ]
    return (
        Table(
            "Pairs kept, by what the rejected response's writer saw", [round_name(r["round"]) for r in gathered], lines
        )
        if lines
        else None
    )


def _made(counts: Facts | None) -> Cell:
    if not counts:
        return Cell("–", tone="quiet")
    return Cell(f"{counts['kept']:,}", f"of {counts['made']:,}", share=counts["kept"] / counts["made"])
