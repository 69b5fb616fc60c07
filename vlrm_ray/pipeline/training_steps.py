"""Follows a training from the driver: its step records go to `metrics/` and to the progress line, and are summarized.

A step's line in `metrics/steps-*.jsonl` is {"time": 1764190000.0, "round": 1, "train": {"step": 12, "loss": 0.41, ...}}; the
fields are those of `vlrm_ray.reward.training.step_records.StepRecord`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vlrm_ray.pipeline.background import repeated
from vlrm_ray.pipeline.run_metrics import STEPS, RunMetrics
from vlrm_ray.reward.training.step_records import progress_text

JsonDict = dict[str, Any]
Records = Sequence[Mapping[str, Any]]
POLL_SECONDS = 1.0
"""Interval at which the driver asks for new records."""
CURVE_POINTS = 120
"""Most points of a loss curve; each is the mean over a run of steps."""
CURVE_FIELDS = ("loss", "accuracy")


@contextmanager
def followed(
    round_: int,
    steps: Callable[[int], tuple[int, Records]],
    metrics: RunMetrics,
    show: Callable[[str], None],
) -> Iterator[None]:
    """Context manager: records of training steps are written and shown while they arrive.

    Args:
        round_: number of the round.
        steps: returns the records that have arrived since a position, and the position after them; see `ProgressBoard.steps`.
        metrics: where the records are written.
        show: shows a text in the progress line.
    """
    position, _ = steps(0)

    def fetch() -> None:
        nonlocal position
        position, records = steps(position)
        metrics.write_due()
        records = [record for record in records if record["round"] == round_]
        for record in records:
            metrics.add(STEPS, {"time": round(time.time(), 1), "round": round_, "train": dict(record)})
        if records:
            show(progress_text(records[-1]))

    try:
        with repeated(fetch, POLL_SECONDS, "following the training"):
            yield
    finally:
        metrics.write()


def records_of(round_: int, metrics: RunMetrics) -> list[JsonDict]:
    """The records of a round by step, of all sessions; the last one of a step that was trained more than once."""
    found = {line["train"]["step"]: line["train"] for line in metrics.read(STEPS) if line["round"] == round_}
    return [found[step] for step in sorted(found)]


def summary(records: Records, dropped: Mapping[str, int]) -> JsonDict:
    """Summary of a round's training for the report; {} without records.

    Args:
        records: the records by step.
        dropped: number of dropped training examples by reason.

    Returns:
        `steps` and `skipped` steps, `dropped` examples by reason, `first_loss` and `last_loss` of a step,
        `best_accuracy` of a point of the curve, `seconds` of the steps, `tokens`, `tokens_per_second`, `wait_share` of the time waiting for
        data, and the `curve`, a list of {"step", "loss", "accuracy"}. If known, `mfu` and `memory_gb` (peak).
    """
    if not records:
        return {}
    losses = [record["loss"] for record in records if record["loss"] is not None]
    points = curve(records)
    accuracies = [point["accuracy"] for point in points if point["accuracy"] is not None]
    seconds = sum(record["seconds"] or 0.0 for record in records)
    tokens = sum(record["tokens"] for record in records)
    busy = [record for record in records if record["mfu"] is not None and record["seconds"]]
    content = {
        "steps": len(records),
        "skipped": sum(record["skipped"] for record in records),
        "dropped": dict(dropped),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "best_accuracy": max(accuracies, default=None),
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "wait_share": round(sum(r["wait_seconds"] or 0.0 for r in records) / seconds, 4) if seconds else None,
        "mfu": round(sum(r["mfu"] * r["seconds"] for r in busy) / sum(r["seconds"] for r in busy), 4) if busy else None,
        "memory_gb": max((r["memory_gb"] for r in records if r["memory_gb"] is not None), default=None),
    }
    return {name: value for name, value in content.items() if value is not None} | {"curve": points}


def curve(records: Records) -> list[JsonDict]:
    """At most `CURVE_POINTS` points of equally many steps, each with the means over its steps and its last step."""
    size = -(-len(records) // CURVE_POINTS)
    groups = [records[start : start + size] for start in range(0, len(records), size)]
    return [{"step": group[-1]["step"]} | {name: _mean(group, name) for name in CURVE_FIELDS} for group in groups]


def _mean(records: Records, name: str) -> float | None:
    values = [record[name] for record in records if record[name] is not None]
    return round(sum(values) / len(values), 4) if values else None
