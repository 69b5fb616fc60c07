"""What each training step did: the record, and where it is sent.

    rank 0 ─ StepRecorder ─► the driver's progress board ─► metrics/, the progress line, Ray's metrics, trackers

The driver writes the file, because an object store cannot append and worker and driver may share no file system. It records
the metrics too, because those of a worker are lost if it ends before Ray has exported them. A
message that is lost costs a line of the file, never the training. The driver imports this module: no torch here.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

CLOSE_SECONDS = 5.0
"""Time that the last record gets to arrive before the worker goes on."""


@dataclass(frozen=True)
class StepRecord:
    """One training step, of all workers where not stated otherwise.

    Attributes:
        round: number of the round.
        epoch: number of the epoch; the first is 1.
        step: number of the step in the round; the first is 1.
        steps: steps of the round.
        loss: loss of the batch, the weighted mean over its tokens.
        loss_critique: mean cross-entropy of the critiques' tokens without the judgements; None without any.
        loss_judgement: mean cross-entropy of the judgement tokens; None without any.
        loss_response: mean cross-entropy of the chosen responses' tokens; None without any.
        accuracy: share of right judgements in the batch, 0 to 1; None without any.
        grad_norm: norm of the gradient before clipping.
        lr: learning rate.
        tokens: trained tokens.
        seconds: duration of the step, with the time waiting for data.
        wait_seconds: time that rank 0 waited for data.
        tokens_per_second: tokens / seconds.
        mfu: model FLOPs utilization, 0 to 1; None for devices without a stated peak.
        memory_gb: peak memory of rank 0 in 1e9 bytes: of its device, or of its process on CPU.
        skipped: 1 if the step was skipped because its loss or gradient was not finite, otherwise 0.
    """

    round: int
    epoch: int
    step: int
    steps: int
    loss: float
    loss_critique: float | None
    loss_judgement: float | None
    loss_response: float | None
    accuracy: float | None
    grad_norm: float
    lr: float
    tokens: int
    seconds: float
    wait_seconds: float
    tokens_per_second: float
    mfu: float | None
    memory_gb: float
    skipped: int = 0

    def as_json(self) -> dict[str, Any]:
        """The record with numbers rounded to six digits; those that are not finite are None."""
        return {name: _jsonable(value) for name, value in asdict(self).items()}


def _jsonable(value: float | None) -> float | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


class StepRecorder:
    """Sends the records of a training; used by rank 0 only.

    It waits for no answer. The first message that fails is the last one, so that a dead board costs no time.
    """

    def __init__(self, board: Any) -> None:
        """Create the recorder.

        Args:
            board: handle of the driver's progress board, an actor with the method `add_step`; None sends nothing.
        """
        self.board = board
        self.last: Any = None
        self.problem = ""

    def add(self, record: StepRecord) -> None:
        """Send a record; never raises."""
        values = record.as_json()
        if self.board is not None:
            try:
                self.last = self.board.add_step.remote(values)
            except Exception as error:
                self.board, self.problem = None, f"the records of further steps are not sent: {error}"

    def close(self) -> None:
        """Wait up to `CLOSE_SECONDS` until the last record has arrived; never raises."""
        import ray

        if self.last is not None:
            with suppress(Exception):  # a dead or slow board has no say in the training
                ray.get(self.last, timeout=CLOSE_SECONDS)


def progress_text(record: Mapping[str, Any]) -> str:
    """A record for the progress line: "train 12/34 loss 0.41 acc .93 1.2k tok/s"."""
    parts = [f"train {record['step']}/{record['steps']}"]
    parts.append("skipped" if record["loss"] is None or record["skipped"] else f"loss {record['loss']:.2f}")
    if record["accuracy"] is not None:
        parts.append(f"acc {record['accuracy']:.2f}".replace(" 0.", " ."))
    rate = record["tokens_per_second"] or 0.0
    parts.append(f"{rate / 1000:.1f}k tok/s" if rate >= 1000 else f"{rate:.0f} tok/s")
    return " ".join(parts)
