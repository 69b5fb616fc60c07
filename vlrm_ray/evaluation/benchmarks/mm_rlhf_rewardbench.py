"""MM-RLHF-RewardBench (Zhang et al. 2025): Acc over pairs and ACC+ over ids, counted like its scoring script.

An id has several pairs; ACC+ counts an id as correct if all of its pairs are. The task of a pair is the first keyword
that occurs in the path of its image or video. A request holds one image, so items with a video are quarantined.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictInt, StrictStr, model_validator

from vlrm_ray.evaluation.benchmarks.files import Record, find_files, json_lines, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

TASKS = ("mcq", "long", "short", "safety", "video")
"""Keywords in the paths, in the order in which the script tries them."""


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
    def _has_image_or_video(self) -> "Pair":
        if not self.image and not self.video:
            raise ValueError("expected a path in 'image' or 'video'")
        return self


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the items of the benchmark's JSON-lines file; the first answer of each is the chosen response."""
    patterns = ("*reward*bench*.jsonl", "*.jsonl", "*reward*bench*.json", "*.json")
    items: list[Item] = []
    for path in find_files(folder, patterns, "MM-RLHF-RewardBench's JSON-lines file"):
        for number, row in read_rows(path, Pair):
            path_in_data = row.image or row.video or ""
            task = next((task for task in TASKS if task in path_in_data), "other")
            items.append(
                Item(
                    len(items), str(row.id), (task,), row.prompt, row.image, (row.chosen, row.rejected), 0,
                    row.model_dump(exclude_none=True), f"{path} row {number}", "" if row.image else "video_not_supported",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """The file's row with `rewards` of the chosen and the rejected response; an undecided item has equal rewards."""
    return {**item.row, "rewards": list(judgement.rewards), "shown_first": ("chosen", "rejected")[judgement.first]}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Acc and ACC+ over all pairs and for each task; a tie is wrong.

    For the ACC+ of a task, the script counts an id whose pairs are all correct under the first task that any of
    its pairs matches, and divides by the number of ids with any pair that matches the task.
    """
    by_id: dict[Any, list[Row]] = {}
    for row in predictions:
        by_id.setdefault(row["id"], []).append(row)
    correct = [row["rewards"][0] > row["rewards"][1] for row in predictions]
    all_correct = {i: all(row["rewards"][0] > row["rewards"][1] for row in pairs) for i, pairs in by_id.items()}
    metrics: dict[str, Any] = {
        "acc": ratio(sum(correct), len(correct)),
        "acc_plus": ratio(sum(all_correct.values()), len(all_correct)),
    }
    tasks_of_correct_ids = [_first_task(pairs) for i, pairs in by_id.items() if all_correct[i]]
    for task in TASKS:
        hits = [hit for row, hit in zip(predictions, correct, strict=True) if _first_task([row]) == task]
        ids = sum(any(task in row.get("image", "") + row.get("video", "") for row in pairs) for pairs in by_id.values())
        if hits:
            metrics[f"{task}_acc"] = sum(hits) / len(hits)
            metrics[f"{task}_acc_plus"] = tasks_of_correct_ids.count(task) / ids
    return metrics


def _first_task(pairs: Sequence[Row]) -> str | None:
    """The first task whose keyword occurs in the path of any of the pairs."""
    paths = [path for row in pairs for path in (row.get("image", ""), row.get("video", ""))]
    return next((task for task in TASKS if any(task in path for path in paths)), None)


MM_RLHF_REWARDBENCH = Benchmark(
    "mm_rlhf_rewardbench", read, predict, lambda predictions: {"predictions.jsonl": json_lines(predictions)}, official
)
