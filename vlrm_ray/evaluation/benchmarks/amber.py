"""AMBER (Wang et al. 2023), its discriminative part, scored as the repository's `inference.py` does.

The positive class is "No", answers must be exactly "Yes" or "No", denominators start at 0.001, and F1
is computed from rounded precision and recall. The generative part asks for captions, which a reward
model does not write: its rows are skipped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr

from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.files import Record, find, json_lines, rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row

_DIMENSION = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "attribute/state"),
    "discriminative-attribute-number": ("attribute", "attribute/number"),
    "discriminative-attribute-action": ("attribute", "attribute/action"),
    "discriminative-relation": ("relation",),
    "relation": ("relation",),
}
_TINY = 0.001
"""What the script's denominators start at."""


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
    """Items of `annotations.json` together with `query_all.json`, or with the discriminative queries."""
    (labels,) = find(folder, ("data/annotations.json", "annotations.json"), "AMBER's annotations.json")
    truth = {row.id: (number, row) for number, row in rows(labels, Annotation)}
    asked = ("query/query_all.json", "query/query_discriminative.json", "query_all.json", "query_discriminative.json")
    (path,) = find(labels.parent, asked, "AMBER's query_all.json or query_discriminative.json")
    items: list[Item] = []
    skipped = 0
    for number, row in rows(path, Query):
        if row.id not in truth:
            raise UserError(f"{path} row {number}: expected an id that {labels} has, got {row.id}")
        line, annotation = truth[row.id]
        if annotation.type == "generative":
            skipped += 1
            continue
        better = _better(annotation, f"{labels} row {line}")
        kept = {"id": row.id, "type": annotation.type, "truth": annotation.truth}
        items.append(
            Item(
                len(items), str(row.id), _DIMENSION[annotation.type], row.query, row.image,
                yes_no.answers(row.query), better, kept, f"{path} row {number}",
            )
        )  # fmt: skip
    if skipped:
        log(f"{skipped} generative rows are skipped: they ask for captions, which a reward model does not write")
    return items


def _better(annotation: Annotation, where: str) -> int:
    if annotation.type not in _DIMENSION:
        raise UserError(f"{where}: column 'type': expected one of {', '.join(_DIMENSION)}, got {annotation.type!r}")
    if annotation.truth not in ("yes", "no"):
        raise UserError(f"{where}: column 'truth': expected yes or no, got {str(annotation.truth)[:40]!r}")
    return yes_no.YES if annotation.truth == "yes" else yes_no.NO


def predict(item: Item, judgement: Judgement) -> Row:
    """`id` and `response`; an undecided one is neither word, so the script counts it as wrong."""
    return {**item.row, "response": yes_no.word(judgement.pick, "")}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Percentages, rounded as the script prints them: all, each dimension, and each kind of attribute."""
    named: dict[str, list[Row]] = {"discriminative": list(predictions)}
    for name in dict.fromkeys(n for names in _DIMENSION.values() for n in names):
        named[name] = [row for row in predictions if name in _DIMENSION[row["type"]]]
    return {name: _figures(found, name) for name, found in named.items() if found}


def _figures(rows: Sequence[Row], name: str) -> dict[str, float]:
    tiny = _TINY * (3 if name == "attribute" else 1)  # the script sums the three kinds' denominators
    hits = [row["response"] == row["truth"].capitalize() for row in rows]
    said_no, gold_no = [row["response"] == "No" for row in rows], [row["truth"] == "no" for row in rows]
    true_no = sum(s and g for s, g in zip(said_no, gold_no, strict=True))
    precision = round(true_no / (sum(said_no) + tiny) * 100, 1)
    recall = round(true_no / (sum(gold_no) + tiny) * 100, 1)
    epsilon = 1e-3 if name == "existence" else 1e-4
    f1 = 2 * (precision / 100) * (recall / 100) / (precision / 100 + recall / 100 + epsilon)
    return {
        "accuracy": round(sum(hits) / (len(rows) + tiny) * 100, 1),
        "precision": precision,
        "recall": recall,
        "f1": round(f1 * 100, 1),
    }


def files(predictions: Sequence[Row]) -> dict[str, str]:
    """`[{"id", "response"}]`."""
    answers = [{"id": row["id"], "response": row["response"]} for row in predictions]
    return {"predictions.json": "[\n" + ",\n".join(json_lines(answers).splitlines()) + "\n]\n"}


AMBER = Benchmark("amber", read, predict, files, official, yes_no=True)
