"""POPE (Li et al. 2023): "Is there a ... in the image?", asked by three ways of choosing what is not there.

Scored as the repository's `evaluate.py` does, one answer file per question file. Its parser takes
everything without the exact word `No`, `no` or `not` in the first sentence for a yes.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr, field_validator

from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.files import Record, find, json_lines, rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

STRATEGIES = ("random", "popular", "adversarial")
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
    """Items of all question files, `coco_pope_random.json` and its like."""
    found = find(folder, ("*_pope_*.json", "**/*_pope_*.json"), "POPE's question files, such as coco_pope_random.json")
    named = [(path, match) for path in found if (match := _NAME.fullmatch(path.name))]
    named.sort(key=lambda pair: (pair[1][1], STRATEGIES.index(pair[1][2])))
    several = len({match[1] for _, match in named}) > 1
    items: list[Item] = []
    for path, match in named:
        group = f"{match[1]}/{match[2]}" if several else match[2]
        for number, row in rows(path, Question):
            better = yes_no.YES if row.label.lower() == "yes" else yes_no.NO
            kept = {**row.model_dump(exclude={"text"}), "question": row.text, "file": path.stem}
            items.append(
                Item(
                    len(items), f"{path.stem}-{row.question_id}", (group,), row.text, row.image,
                    yes_no.answers(row.text), better, kept, f"{path} row {number}",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """`question` and `answer`; the script reads an undecided one as yes."""
    return {**item.row, "answer": yes_no.word(judgement.pick, "undecided")}


def says_yes(text: str) -> bool:
    """The official parser: "NO", "Nope" and "cannot" are a yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Figures of each question file."""
    files = dict.fromkeys(row["file"] for row in predictions)
    return {name: _of_file([row for row in predictions if row["file"] == name]) for name in files}


def _of_file(predictions: Sequence[Row]) -> dict[str, Any]:
    said = [says_yes(row["answer"]) for row in predictions]
    true = [row["label"] != "no" for row in predictions]
    tp, fp = (sum(s and t is side for s, t in zip(said, true, strict=True)) for side in (True, False))
    fn, tn = (sum(not s and t is side for s, t in zip(said, true, strict=True)) for side in (True, False))
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    both = (precision or 0.0) + (recall or 0.0)
    f1 = None if precision is None or recall is None or not both else 2 * precision * recall / both
    found: dict[str, Any] = {
        "accuracy": (tp + tn) / len(said),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "yes_ratio": sum(said) / len(said),
    }
    return found if f1 is not None else found | {"script_stops": "ZeroDivisionError: no true yes among the answers"}


def files(predictions: Sequence[Row]) -> dict[str, str]:
    """All answers, and beside them one answer file for each question file, in its order."""
    names = dict.fromkeys(row["file"] for row in predictions)
    apart = {f"answers/{n}.jsonl": json_lines([row for row in predictions if row["file"] == n]) for n in names}
    return {"predictions.jsonl": json_lines(predictions), **apart}


POPE = Benchmark("pope", read, predict, files, official, yes_no=True)
