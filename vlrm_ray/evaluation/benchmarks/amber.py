"""AMBER (Wang et al. 2023), discriminative part, scored like the repository's `inference.py`.

The official formula has four peculiarities: the positive class is "No", an answer must be exactly "Yes" or "No",
denominators start at 0.001, and F1 is computed from the rounded precision and recall. Rows of the generative part are
skipped, because they ask for captions and a reward model does not write any.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr

from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.files import Record, find_files, json_lines, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row

_GROUPS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "attribute/state"),
    "discriminative-attribute-number": ("attribute", "attribute/number"),
    "discriminative-attribute-action": ("attribute", "attribute/action"),
    "discriminative-relation": ("relation",),
    "relation": ("relation",),
}
"""Groups of an item, by the annotation's type."""
_EPSILON = 0.001
"""Start value of the official script's denominators."""


class Annotation(Record):
    """A row of `annotations.json`."""

    id: StrictInt
    type: StrictStr
    truth: Any


class Query(Record):
    """A row of `query_*.json`."""

    id: StrictInt
    image: StrictStr
    query: StrictStr


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the items of `annotations.json` joined with `query_all.json` or `query_discriminative.json`."""
    (labels,) = find_files(folder, ("data/annotations.json", "annotations.json"), "AMBER's annotations.json")
    annotations = {row.id: (number, row) for number, row in read_rows(labels, Annotation)}
    names = ("query/query_all.json", "query/query_discriminative.json", "query_all.json", "query_discriminative.json")
    (path,) = find_files(labels.parent, names, "AMBER's query_all.json or query_discriminative.json")
    items: list[Item] = []
    skipped = 0
    for number, row in read_rows(path, Query):
        if row.id not in annotations:
            raise UserError(f"{path} row {number}: expected an id of {labels}, got {row.id}")
        line, annotation = annotations[row.id]
        if annotation.type == "generative":
            skipped += 1
            continue
        better = _better(annotation, f"{labels} row {line}")
        columns = {"id": row.id, "type": annotation.type, "truth": annotation.truth}
        items.append(
            Item(
                len(items), str(row.id), _GROUPS[annotation.type], row.query, row.image,
                yes_no.answers(row.query), better, columns, f"{path} row {number}",
            )
        )  # fmt: skip
    if skipped:
        log(f"skipped {skipped} generative rows: they ask for captions, which a reward model does not write")
    return items


def _better(annotation: Annotation, where: str) -> int:
    if annotation.type not in _GROUPS:
        raise UserError(f"{where}: column 'type': expected one of {', '.join(_GROUPS)}, got {annotation.type!r}")
    if annotation.truth not in ("yes", "no"):
        raise UserError(f"{where}: column 'truth': expected yes or no, got {str(annotation.truth)[:40]!r}")
    return yes_no.YES if annotation.truth == "yes" else yes_no.NO


def predict(item: Item, judgement: Judgement) -> Row:
    """Row with `id` and `response`; an undecided response is empty, which the official script counts as wrong."""
    return {**item.row, "response": yes_no.word(judgement.pick, "")}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Metrics in percent, rounded as the official script prints them: over all rows and for each group."""
    by_group: dict[str, list[Row]] = {"discriminative": list(predictions)}
    for name in dict.fromkeys(n for names in _GROUPS.values() for n in names):
        by_group[name] = [row for row in predictions if name in _GROUPS[row["type"]]]
    return {name: _metrics(rows, name) for name, rows in by_group.items() if rows}


def _metrics(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of the class "No", in percent."""
    start = _EPSILON * (3 if name == "attribute" else 1)  # the script sums the denominators of three attribute types
    hits = [row["response"] == row["truth"].capitalize() for row in rows]
    predicted_no, true_no = [row["response"] == "No" for row in rows], [row["truth"] == "no" for row in rows]
    correct_no = sum(p and t for p, t in zip(predicted_no, true_no, strict=True))
    precision = round(correct_no / (sum(predicted_no) + start) * 100, 1)
    recall = round(correct_no / (sum(true_no) + start) * 100, 1)
    epsilon = 1e-3 if name == "existence" else 1e-4
    f1 = 2 * (precision / 100) * (recall / 100) / (precision / 100 + recall / 100 + epsilon)
    return {
        "accuracy": round(sum(hits) / (len(rows) + start) * 100, 1),
        "precision": precision,
        "recall": recall,
        "f1": round(f1 * 100, 1),
    }


def files(predictions: Sequence[Row]) -> dict[str, str]:
    """The file `predictions.json`, a list of objects with `id` and `response`."""
    answers = [{"id": row["id"], "response": row["response"]} for row in predictions]
    return {"predictions.json": "[\n" + ",\n".join(json_lines(answers).splitlines()) + "\n]\n"}


AMBER = Benchmark("amber", read, predict, files, official, yes_no=True)
