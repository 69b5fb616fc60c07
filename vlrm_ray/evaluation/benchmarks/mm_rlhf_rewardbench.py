"""MM-RLHF-RewardBench (Zhang et al. 2025): Acc over pairs, ACC+ over ids, as its scoring script counts them.

An id has several pairs; ACC+ wants all of them right. The task is the first keyword in the path of
the image or video. One picture is shown per request, so videos are quarantined.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr, model_validator

from vlrm_ray.evaluation.benchmarks.files import Record, find, json_lines, rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

TASKS = ("mcq", "long", "short", "safety", "video")


class Pair(Record):
    """A row of the public file."""

    id: StrictStr | StrictInt
    image: StrictStr | None = None
    video: StrictStr | None = None
    prompt: StrictStr
    chosen: StrictStr
    rejected: StrictStr
    chosen_reason: Any = ""
    rejected_reason: Any = ""

    @model_validator(mode="after")
    def _shows_something(self) -> "Pair":
        if not self.image and not self.video:
            raise ValueError("expected a path in 'image' or 'video'")
        return self


def read(folder: Path, log: LogFn) -> list[Item]:
    """Items of the benchmark's JSON-lines file; the chosen response comes first there."""
    patterns = ("*reward*bench*.jsonl", "*.jsonl", "*reward*bench*.json", "*.json")
    items: list[Item] = []
    for path in find(folder, patterns, "MM-RLHF-RewardBench's JSON-lines file"):
        for number, row in rows(path, Pair):
            shown = row.image or row.video or ""
            task = next((task for task in TASKS if task in shown), "other")
            items.append(
                Item(
                    len(items), str(row.id), (task,), row.prompt, row.image, (row.chosen, row.rejected), 0,
                    row.model_dump(exclude_none=True), f"{path} row {number}", "" if row.image else "video_not_supported",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """The file's row with `rewards` of chosen and rejected; an undecided item has equal ones."""
    return {**item.row, "rewards": list(judgement.rewards), "shown_first": ("chosen", "rejected")[judgement.first]}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Acc and ACC+ of all and of each task; a tie is wrong.

    The script credits an id that is all right to the first task that any of its pairs matches, and
    divides by the ids that match the task at all.
    """
    by_id: dict[Any, list[Row]] = {}
    for row in predictions:
        by_id.setdefault(row["id"], []).append(row)
    right = [row["rewards"][0] > row["rewards"][1] for row in predictions]
    whole = {i: all(row["rewards"][0] > row["rewards"][1] for row in pairs) for i, pairs in by_id.items()}
    found: dict[str, Any] = {"acc": ratio(sum(right), len(right)), "acc_plus": ratio(sum(whole.values()), len(whole))}
    credited = [_first_task(pairs) for i, pairs in by_id.items() if whole[i]]
    for task in TASKS:
        hits = [hit for row, hit in zip(predictions, right, strict=True) if _first_task([row]) == task]
        ids = sum(any(task in row.get("image", "") + row.get("video", "") for row in pairs) for pairs in by_id.values())
        if hits:
            found[f"{task}_acc"], found[f"{task}_acc_plus"] = sum(hits) / len(hits), credited.count(task) / ids
    return found


def _first_task(pairs: Sequence[Row]) -> str | None:
    paths = [path for row in pairs for path in (row.get("image", ""), row.get("video", ""))]
    return next((task for task in TASKS if any(task in path for path in paths)), None)


MM_RLHF_REWARDBENCH = Benchmark(
    "mm_rlhf_rewardbench", read, predict, lambda predictions: {"predictions.jsonl": json_lines(predictions)}, official
)
