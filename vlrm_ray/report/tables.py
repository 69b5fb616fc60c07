"""Tables of the page, built from the content of `report.json`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrm_ray.evaluation.gains import CONSISTENCY, main_metrics
from vlrm_ray.report.text import humanize, percent, signed
from vlrm_ray.store.ledger import ROLLOUT_STAGES

JsonObject = Mapping[str, Any]
"""A part of `report.json`."""
_UNITS = {
    "generate": "responses",
    "verify": "responses",
    "pair": "responses in pairs",
    "critique": "critiques",
    "select": "pairs",
    "train": "pairs",
}
"""What the rows of each stage are."""
HEADLINE_TITLES = {
    "hallucination_pair_accuracy": "Hallucination pairs",
    "reasoning_pair_accuracy": "Reasoning pairs",
    "held_out_pair_accuracy": "Held-out pairs",
}
METRIC_LABELS = {
    "hallucination_pair_accuracy": "hallucination pairs",
    "blind_hallucination_pair_accuracy": "hallucination pairs, without the image",
    "reasoning_pair_accuracy": "reasoning pairs",
    "blind_reasoning_pair_accuracy": "reasoning pairs, without the image",
    "agreeing_with_prior_pair_accuracy": "pairs where the right response is the typical one",
    "against_prior_pair_accuracy": "pairs where the wrong response is the typical one",
    "reasoning_consistency": "reasoning consistency",
    "known_combinations_pair_accuracy": "pairs about images without held-out combinations of shape and color",
    "new_combinations_pair_accuracy": "pairs about images with held-out combinations",
    "known_combinations_consistency": "reasoning consistency without held-out combinations",
    "new_combinations_consistency": "reasoning consistency with held-out combinations",
    "undecided": "pairs with a response that was not judged",
    "told_pair_accuracy": "pairs judged from told facts (not forgotten by training)",
    "critique_facts_true": "critiques that state only true facts",
    "known_shapes_stated": "shapes that critiques describe rightly",
    "new_shapes_stated": "shapes in held-out colors that critiques describe rightly",
    "signs_stated": "signs that critiques read rightly",
    "critique_follows": "critiques whose judgement follows from the stated facts",
    "critique_right_by_false_facts": "right judgements from false facts (lower is better)",
    "critique_readable": "critiques with a readable judgement of their own",
    "pointwise_balanced_accuracy": "single responses, balanced accuracy",
    "pointwise_f1": "single responses, F1 of detecting wrong ones",
    "ece": "calibration error (lower is better)",
    "ece_uncalibrated": "calibration error before temperature scaling",
    "pick_shorter_accuracy": "baseline: pick the shorter response",
    "pick_longer_accuracy": "baseline: pick the longer response",
    "always_first_accuracy": "baseline: pick the first response",
    "held_out_pair_accuracy": "held-out pairs",
    "blind_held_out_pair_accuracy": "held-out pairs, without the image",
    "held_out_balanced_accuracy": "held-out responses, balanced accuracy",
    "held_out_critique_readable": "held-out pairs: critiques with a readable judgement of their own",
    "held_out_undecided": "held-out pairs with a response that was not judged",
    "held_out_ece": "held-out pairs: calibration error (lower is better)",
    "held_out_ece_uncalibrated": "held-out pairs: calibration error before temperature scaling",
    "held_out_pick_shorter_accuracy": "held-out pairs, baseline: pick the shorter response",
    "held_out_pick_longer_accuracy": "held-out pairs, baseline: pick the longer response",
}
"""Labels of the metrics over the whole benchmark, in the order of the table. Other metrics are labelled by name."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the value.
        note: a smaller note below it.
        tone: CSS class: a verdict, `quiet` for unimportant values, or empty.
        share: share in [0, 1] that a bar below the value shows; None for no bar.
    """

    text: str
    note: str = ""
    tone: str = ""
    share: float | None = None


@dataclass(frozen=True)
class TableRow:
    """A row of a table with its heading; an `inner` row is a detail of the row above."""

    name: str
    cells: Sequence[Cell]
    inner: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption and column headings."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[TableRow]


def round_label(number: int) -> str:
    """The name of a round on the page."""
    return f"round {number}"


def metrics_table(
    rounds: Sequence[JsonObject], labels: Mapping[str, str], caption: str, change: bool = True
) -> Table | None:
    """Metrics by round in percent, with number of items and interval; None if no metric was measured.

    Args:
        rounds: the rounds of the report.
        labels: label of each metric, by its name.
        caption: caption of the table.
        change: whether a last column shows the change from the first to the last round.
    """
    measured = [r for r in rounds if any(name in r["metrics"] for name in labels)]
    with_change = change and len(measured) > 1
    rows = []
    for metric_name, label in labels.items():
        metrics = [r["metrics"].get(metric_name) for r in measured]
        if any(metrics):
            cells = [_metric_cell(metric) for metric in metrics]
            sizes = sorted({metric["n"] for metric in metrics if metric})
            heading = f"{label}, N = {'–'.join(map(str, sizes))}"
            rows.append(TableRow(heading, [*cells, _change_cell(metrics)] if with_change else cells))
    columns = [round_label(r["round"]) for r in measured]
    return Table(caption, [*columns, "change"] if with_change else columns, rows) if rows else None


def gains_table(rounds: Sequence[JsonObject]) -> Table | None:
    """What each round brought over the one before, and what it cost; None before the second evaluation."""
    with_gains = [r for r in rounds if r.get("gains")]
    names = main_metrics(dict.fromkeys(name for r in with_gains for name in r["gains"]))
    labels = {name: METRIC_LABELS.get(name, humanize(name)) for name in (*names, CONSISTENCY)}
    rows = [
        TableRow(f"gain in {label}", [_gain_cell(r["gains"].get(name)) for r in with_gains])
        for name, label in labels.items()
        if any(name in r["gains"] for r in with_gains)
    ]
    rows += [
        TableRow(f"{title}: {stage}", [_seconds_cell(r[key].get(stage)) for r in with_gains], inner=True)
        for title, key in (("seconds", "seconds"), ("CPU seconds", "cpu_seconds"))
        if all(key in r for r in with_gains)
        for stage in ("gather", "train", "evaluate")
    ]
    columns = [round_label(r["round"]) for r in with_gains]
    return Table("What each round brought, in points, and what it cost", columns, rows) if with_gains else None


def _gain_cell(gain: JsonObject | None) -> Cell:
    if not gain:
        return Cell("–", tone="quiet")
    low, high = (signed(100 * end) for end in gain["ci95"])
    return Cell(signed(100 * gain["value"]), f"{low} to {high}", "" if gain["ci95"][0] > 0 else "quiet")


def question_kinds(rounds: Sequence[JsonObject]) -> dict[str, str]:
    """Labels of the pair accuracies by kind of question."""
    names = [
        name
        for name in _metric_names(rounds)
        if name.endswith("_pair_accuracy") and name not in METRIC_LABELS and not name.startswith("pope_")
    ]
    return {name: humanize(name.removesuffix("_pair_accuracy")) for name in names}


def overall_metrics(rounds: Sequence[JsonObject]) -> dict[str, str]:
    """Labels of all metrics that are neither by kind of question nor of POPE."""
    others = question_kinds(rounds) | pope_metrics(rounds)
    unlisted = [name for name in _metric_names(rounds) if name not in METRIC_LABELS and name not in others]
    return METRIC_LABELS | {name: humanize(name) for name in unlisted}


def pope_metrics(rounds: Sequence[JsonObject]) -> dict[str, str]:
    """Labels of the POPE metrics; empty for a run without a POPE evaluation."""
    return {name: humanize(name.removeprefix("pope_")) for name in _metric_names(rounds) if name.startswith("pope_")}


def _metric_names(rounds: Sequence[JsonObject]) -> list[str]:
    return list(dict.fromkeys(name for r in rounds for name in r["metrics"]))


def _metric_cell(metric: JsonObject | None) -> Cell:
    if not metric:
        return Cell("–", tone="quiet")
    low, high = metric["ci95"]
    return Cell(percent(metric["value"]), f"{100 * low:.0f}–{100 * high:.0f}")


def _change_cell(metrics: Sequence[JsonObject | None]) -> Cell:
    """Change in percentage points from the first to the last measurement; quiet if the intervals overlap."""
    measured = [metric for metric in metrics if metric]
    if len(measured) < 2:
        return Cell("–", tone="quiet")
    first, last = measured[0], measured[-1]
    points = 100 * (last["value"] - first["value"])
    disjoint = last["ci95"][0] > first["ci95"][1] or last["ci95"][1] < first["ci95"][0]
    return Cell(signed(points), "intervals do not overlap" if disjoint else "", "" if disjoint else "quiet")


def rows_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Rows kept, dropped and quarantined at each stage, with the reasons; None if there are none."""
    with_rows = [r for r in rounds if r["rows"]]
    rows: list[TableRow] = []
    for stage in (*ROLLOUT_STAGES, "train"):
        counts = [r["rows"].get(stage) for r in with_rows]
        if not any(counts):
            continue
        rows.append(TableRow(f"{stage} ({_UNITS[stage]})", [_kept_cell(row_counts) for row_counts in counts]))
        for outcome in ("dropped", "quarantined"):
            for reason in sorted({reason for row_counts in counts if row_counts for reason in row_counts[outcome]}):
                cells = [_lost_cell(row_counts, outcome, reason) for row_counts in counts]
                rows.append(TableRow(f"{outcome}: {humanize(reason)}", cells, inner=True))
    columns = [round_label(r["round"]) for r in with_rows]
    return Table("Rows kept by stage, and reasons for dropped and quarantined rows", columns, rows) if rows else None


def _kept_cell(row_counts: JsonObject | None) -> Cell:
    if not row_counts:
        return Cell("–", tone="quiet")
    return Cell(
        f"{row_counts['kept']:,}",
        f"of {row_counts['in']:,}",
        share=row_counts["kept"] / row_counts["in"] if row_counts["in"] else 0.0,
    )


def _lost_cell(row_counts: JsonObject | None, outcome: str, reason: str) -> Cell:
    count = row_counts[outcome].get(reason, 0) if row_counts else 0
    return Cell(f"{count:,}", tone="quiet" if not count else "")


def seconds_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Seconds by stage and round."""
    measured = dict.fromkeys(stage for r in rounds for stage in r["seconds"])
    stages = [s for s in ("gather", *ROLLOUT_STAGES, "train", "publish", "evaluate") if s in measured]
    labels = {"gather": "rollout phase (gather), wall time"} | {
        stage: f"{stage}, sum over parts at the same time" for stage in ROLLOUT_STAGES
    }
    rows = [
        TableRow(
            labels.get(stage, stage),
            [_seconds_cell(r["seconds"].get(stage)) for r in rounds],
            inner=stage in ROLLOUT_STAGES,
        )
        for stage in stages
    ]
    return Table("Seconds by stage", [round_label(r["round"]) for r in rounds], rows) if rows else None


def actors_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Busy seconds of each actor or stage of the rollout and critique phase, by round."""
    with_actors = [r for r in rounds if any(actor not in r["seconds"] for actor in r.get("busy", {}))]
    actors = dict.fromkeys(a for r in with_actors for a in r["busy"] if a not in r["seconds"] or a in ROLLOUT_STAGES)
    rows = [TableRow(humanize(a), [_seconds_cell(r["busy"].get(a)) for r in with_actors]) for a in actors]
    columns = [round_label(r["round"]) for r in with_actors]
    return Table("Busy seconds by actor while a round was gathered", columns, rows) if rows else None


def overlap_table(rounds: Sequence[JsonObject]) -> Table | None:
    """What was made ahead of each round, and how far behind the newest version its models were; None if nothing was."""
    gathered = [r for r in rounds if r.get("overlap")]
    if not any(r["overlap"]["parts_ahead"] for r in gathered):
        return None
    labels = {
        "parts_ahead": "parts made while the round before trained",
        "policy_staleness": "versions that the policy is behind",
        "critic_version": "version that wrote the critiques",
        "critic_staleness": "versions that it is behind the newest",
    }
    rows = [TableRow(label, [Cell(f"{r['overlap'][name]:,}") for r in gathered]) for name, label in labels.items()]
    return Table("Work ahead of each round", [round_label(r["round"]) for r in gathered], rows)


def _seconds_cell(seconds: float | None) -> Cell:
    return Cell("–", tone="quiet") if seconds is None else Cell(f"{seconds:,.1f}")


def verdicts_table(rounds: Sequence[JsonObject]) -> Table | None:
    """The experts' verdicts on the claims of all rounds, by claim type."""
    counts: dict[str, dict[str, int]] = {}
    for round_ in rounds:
        for kind, verdicts in round_.get("statistics", {}).get("claims", {}).items():
            for verdict, count in verdicts.items():
                counts.setdefault(kind, {}).setdefault(verdict, 0)
                counts[kind][verdict] += count
    columns = ("supported", "contradicted", "unverifiable")
    rows = [
        TableRow(humanize(kind), [Cell(f"{sum(of_kind.values()):,}"), *(_verdict_cell(of_kind, v) for v in columns)])
        for kind, of_kind in counts.items()
    ]
    return Table("Claims of all rounds by type and verdict", ["claims", *columns], rows) if rows else None


def _verdict_cell(counts: Mapping[str, int], verdict: str) -> Cell:
    count, total = counts.get(verdict, 0), sum(counts.values())
    return Cell(percent(count / total) if total else "–", f"{count:,}", verdict, count / total if total else None)


def pairs_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Pairs made and kept, by the image that the rejected response was generated from."""
    labels = {
        "full": "full image",
        "image_free": "no image",
        "image_degraded": "degraded image",
        "given": "given response",
    }
    return _counts_table(
        rounds, "pairs", labels, "Pairs kept, by the image input of the rejected response", _pairs_cell
    )


def difficulty_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Pairs made and kept, by how the newest version judged them without evidence; None if it was not asked."""
    labels = {
        "failed": "judged wrongly",
        "lucky": "judged rightly, from false statements",
        "mastered": "judged rightly, from true statements",
    }
    caption = "Pairs kept, by the newest version's judgement without evidence"
    return _counts_table(rounds, "difficulty", labels, caption, _pairs_cell)


def critiques_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Critiques that are learned, by who wrote them, and how many of them state something false."""
    labels = {"": "all", "base": "by the untrained model", "newest": "by the newest version", "own": "unaided"}
    caption = "Critiques that are learned, and those with a statement that the experts contradict"
    return _counts_table(rounds, "critiques", labels, caption, _false_cell)


def words_table(rounds: Sequence[JsonObject]) -> Table | None:
    """How well words alone tell the sides of the selected pairs apart, and which words do; None if it was not measured."""
    measured = [r for r in rounds if r.get("words")]
    if not measured:
        return None
    rows = [TableRow("accuracy (chance is 50 %)", [_metric_cell(r["words"]["accuracy"]) for r in measured])]
    for side in ("chosen", "rejected"):
        cells = [Cell(", ".join(r["words"][side]) or "–", tone="quiet") for r in measured]
        rows.append(TableRow(f"words of the {side} side", cells, inner=True))
    lengths = [_metric_cell(r["words"]["longer"] if r["words"]["longer"]["n"] else None) for r in measured]
    rows.append(TableRow("pairs of unequal length in which the chosen response is the longer one", lengths))
    caption = (
        "What words alone tell: a word count, fitted to the pairs of half of the images, on the pairs of the others"
    )
    return Table(caption, [round_label(r["round"]) for r in measured], rows)


def _counts_table(
    rounds: Sequence[JsonObject],
    name: str,
    labels: Mapping[str, str],
    caption: str,
    cell: Callable[[JsonObject | None], Cell],
) -> Table | None:
    """Table of one of the rounds' statistics, with a row for each of its names; None if no round has it."""
    measured = [r for r in rounds if r.get("statistics", {}).get(name)]
    names = dict.fromkeys(key for r in measured for key in r["statistics"][name])
    rows = [
        TableRow(labels.get(key, humanize(key)), [cell(r["statistics"][name].get(key)) for r in measured])
        for key in sorted(names, key=lambda key: list(labels).index(key) if key in labels else len(labels))
    ]
    return Table(caption, [round_label(r["round"]) for r in measured], rows) if rows else None


def _pairs_cell(counts: JsonObject | None) -> Cell:
    if not counts:
        return Cell("–", tone="quiet")
    return Cell(f"{counts['kept']:,}", f"of {counts['made']:,}", share=counts["kept"] / counts["made"])


def _false_cell(counts: JsonObject | None) -> Cell:
    if not counts:
        return Cell("–", tone="quiet")
    notes = [f"{percent(counts['false'] / counts['checked'])} false" if counts.get("checked") else "not checked"]
    if counts.get("asked"):
        notes.append(f"{counts['asked']:,} broke off and were asked for the judgement")
    return Cell(f"{counts['kept']:,}", ", ".join(notes))
