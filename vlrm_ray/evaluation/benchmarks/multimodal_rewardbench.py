"""Multimodal RewardBench (Yasunaga et al. 2025): one accuracy per task, computed like `2_get_accuracy.py`.

The script replaces a missing verdict by a random one from a generator with a fixed seed, so the accuracies depend on
the order of the lines.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import StrictStr

from vlrm_ray.evaluation.benchmarks.files import Record, find_files, json_lines, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row


class Example(Record):
    """A row of `all_data.json`."""

    ID: StrictStr
    Text: StrictStr
    Image: StrictStr
    Output1: StrictStr
    Output2: StrictStr
    Better: Literal["Output1", "Output2"]
    Category: StrictStr


def split_of(category: str, item_id: str) -> str:
    """The task that the script counts a row under; it splits safety and reasoning in two by id."""
    if category == "safety":
        return "safety/bias" if item_id.lower().startswith("pairs") else "safety/toxicity"
    if category == "reasoning":
        return "reasoning/math" if item_id.lower().startswith("math") else "reasoning/coding"
    return category


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the items of `all_data.json`."""
    items: list[Item] = []
    for path in find_files(folder, ("data/all_data.json", "all_data.json"), "Multimodal RewardBench's all_data.json"):
        for number, row in read_rows(path, Example):
            groups = tuple(dict.fromkeys((row.Category, split_of(row.Category, row.ID))))
            better = int(row.Better == "Output2")
            columns = {"ID": row.ID, "Label": "AB"[better], "Meta": {"ID": row.ID, "Category": row.Category}}
            items.append(
                Item(
                    len(items), row.ID, groups, row.Text, row.Image, (row.Output1, row.Output2),
                    better, columns, f"{path} row {number}",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """Prediction row; verdict A is always Output1, and `Meta` says which output was shown first."""
    verdict = f"No verdict: {judgement.status}." if judgement.pick is None else f"[[{'AB'[judgement.pick]}]]"
    meta = {**item.row["Meta"], "shown_first": f"Output{judgement.first + 1}"}
    return {**item.row, "output": verdict, "Meta": meta}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Accuracy over all rows (`all`) and of each task."""
    rng = random.Random(123)
    hits: dict[str, list[bool]] = {"all": []}
    for row in predictions:
        text = row["output"]
        verdict = "A" if "[[A]]" in text else "B" if "[[B]]" in text else "A" if rng.random() < 0.5 else "B"
        for task in ("all", split_of(row["Meta"]["Category"], row["ID"])):
            hits.setdefault(task, []).append(verdict == row["Label"])
    metrics: dict[str, Any] = {task: sum(hit) / len(hit) if hit else None for task, hit in hits.items()}
    return metrics if predictions else metrics | {"script_stops": "ZeroDivisionError: no predictions"}


MULTIMODAL_REWARDBENCH = Benchmark(
    "multimodal_rewardbench",
    read,
    predict,
    lambda predictions: {"predictions.jsonl": json_lines(predictions)},
    official,
)
