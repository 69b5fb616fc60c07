"""POPE (Li et al. 2023): questions "Is there a ... in the image?", with three strategies to choose absent objects.

Scored like the repository's `evaluate.py`, with one answer file per question file. The official parser reads every
answer as "yes" unless its first sentence has one of the exact words `No`, `no` and `not`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr, field_validator

from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.files import Record, find_files, json_lines, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

STRATEGIES = ("random", "popular", "adversarial")
"""How POPE chooses the absent objects that it asks about."""
_NAME = re.compile(r"(.+)_pope(?:_seem)?_(random|popular|adversarial)\.json")


class Question(Record):
    """A row of a question file."""

    question_id: StrictInt | StrictStr
    image: StrictStr
    text: StrictStr
    label: StrictStr

    @field_validator("label")
    @classmethod
    def _yes_or_no(cls, label: str) -> str:
        if label.lower() not in ("yes", "no"):
            raise ValueError("expected yes or no")
        return label


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the items of all question files, which have names like `coco_pope_random.json`."""
    paths = find_files(
        folder, ("*_pope_*.json", "**/*_pope_*.json"), "POPE's question files, such as coco_pope_random.json"
    )
    named = [(path, match) for path in paths if (match := _NAME.fullmatch(path.name))]
    named.sort(key=lambda pair: (pair[1][1], STRATEGIES.index(pair[1][2])))
    several_datasets = len({match[1] for _, match in named}) > 1
    items: list[Item] = []
    for path, match in named:
        group = f"{match[1]}/{match[2]}" if several_datasets else match[2]
        for number, row in read_rows(path, Question):
            better = yes_no.YES if row.label.lower() == "yes" else yes_no.NO
            columns = {**row.model_dump(exclude={"text"}), "question": row.text, "file": path.stem}
            items.append(
                Item(
                    len(items), f"{path.stem}-{row.question_id}", (group,), row.text, row.image,
                    yes_no.answers(row.text), better, columns, f"{path} row {number}",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """Row with `question` and `answer`; the official script reads an undecided answer as "yes"."""
    return {**item.row, "answer": yes_no.word(judgement.pick, "undecided")}


def says_yes(text: str) -> bool:
    """The official parser; it also reads "NO", "Nope" and "cannot" as "yes"."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Metrics of each question file, by its name."""
    names = dict.fromkeys(row["file"] for row in predictions)
    return {name: _file_metrics([row for row in predictions if row["file"] == name]) for name in names}


def _file_metrics(predictions: Sequence[Row]) -> dict[str, Any]:
    """Accuracy, precision, recall and F1 of the class "yes", and the share of yes answers."""
    predicted = [says_yes(row["answer"]) for row in predictions]
    true = [row["label"] != "no" for row in predictions]
    tp, fp = (sum(p and t is label for p, t in zip(predicted, true, strict=True)) for label in (True, False))
    fn, tn = (sum(not p and t is label for p, t in zip(predicted, true, strict=True)) for label in (True, False))
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    total = (precision or 0.0) + (recall or 0.0)
    f1 = None if precision is None or recall is None or not total else 2 * precision * recall / total
    metrics: dict[str, Any] = {
        "accuracy": (tp + tn) / len(predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "yes_ratio": sum(predicted) / len(predicted),
    }
    return metrics if f1 is not None else metrics | {"script_stops": "ZeroDivisionError: no true yes among the answers"}


def files(predictions: Sequence[Row]) -> dict[str, str]:
    """`predictions.jsonl` with all answers, and one answer file for each question file, in its order."""
    names = dict.fromkeys(row["file"] for row in predictions)
    answer_files = {f"answers/{n}.jsonl": json_lines([row for row in predictions if row["file"] == n]) for n in names}
    return {"predictions.jsonl": json_lines(predictions), **answer_files}


POPE = Benchmark("pope", read, predict, files, official, yes_no=True)
