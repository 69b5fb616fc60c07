"""Own labels: pairs of responses that people have compared, with the groups that they are reported by.

A pair whose responses people found equally good has no better one, so it cannot measure an accuracy: it is left out. There is no
official script.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictBool, StrictInt, StrictStr, ValidationInfo, field_validator

from vlrm_ray.evaluation.benchmarks.files import Record, find_files, image_of, json_lines, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row

UNNAMED = "all"
"""Group of the pairs whose rows name none."""


class LabelledPair(Record):
    """A row of the file."""

    question: StrictStr
    chosen: StrictStr
    rejected: StrictStr
    image: Any = None
    id: StrictStr | StrictInt = ""
    group: StrictStr = UNNAMED
    tie: StrictBool = False

    @field_validator("rejected")
    @classmethod
    def _differs(cls, rejected: str, info: ValidationInfo) -> str:
        if rejected == info.data.get("chosen"):
            raise ValueError("expected another text than the one in 'chosen'")
        return rejected


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the pairs; those with a tie are left out, and their number is logged."""
    patterns = ("labels.jsonl", "*.jsonl", "*.json", "*.parquet")
    items: list[Item] = []
    ties = 0
    for path in find_files(folder, patterns, "your labels as JSON lines, JSON or Parquet"):
        for number, row in read_rows(path, LabelledPair):
            if row.tie:
                ties += 1
                continue
            image, problem = image_of(row.image)
            name = str(row.id) or f"{path.stem}-{number}"  # the order in which answers are shown depends on it
            columns = {"id": name, **row.model_dump(include={"group", "question", "chosen", "rejected"})}
            answers = row.chosen, row.rejected
            group = row.group or UNNAMED
            items.append(
                Item(
                    len(items),
                    name,
                    (group,),
                    row.question,
                    image,
                    answers,
                    0,
                    columns,
                    f"{path} row {number}",
                    problem,
                )
            )
    if ties:
        log(f"{ties} pairs without a better response (tie) are left out")
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """The row with the rewards of both responses, and which one the judge prefers; null if it is undecided."""
    picked = None if judgement.pick is None else ("chosen", "rejected")[judgement.pick]
    return {**item.row, "rewards": list(judgement.rewards), "status": judgement.status, "preferred": picked}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """No metrics, because there is no official script."""
    return {}


LABELS = Benchmark(
    "labels", read, predict, lambda predictions: {"predictions.jsonl": json_lines(predictions)}, official
)
