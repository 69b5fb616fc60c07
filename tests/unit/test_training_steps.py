"""A training followed by the driver: `metrics/`, the progress line, and the summary in the report."""

import time
from pathlib import Path
from typing import Any

import pytest

from actors.progress_board import ProgressBoard
from vlrm_ray.pipeline import training_steps
from vlrm_ray.pipeline.run_metrics import OLD_FILE, STEPS, RunMetrics
from vlrm_ray.report.training import loss_curve, training_table
from vlrm_ray.store.ledger import Ledger


def record(step: int, **changes: Any) -> dict[str, Any]:
    """The record of a step of 2 seconds, half of a second of which it waited for data."""
    fields: dict[str, Any] = {
        "round": 1, "step": step, "steps": 4, "loss": 1.0 / step, "accuracy": 0.5, "tokens": 100, "seconds": 2.0,
        "wait_seconds": 0.5, "tokens_per_second": 50.0, "mfu": None, "memory_gb": 1.0 + step, "skipped": 0,
    }  # fmt: skip
    return fields | changes


def test_records_are_written_and_shown_while_they_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_steps, "POLL_SECONDS", 0.02)
    board, shown, ledger = ProgressBoard(), list[str](), Ledger(str(tmp_path))
    board.add_step(record(7))  # of an earlier training
    metrics = RunMetrics(ledger)
    with training_steps.followed(1, board.steps, metrics, shown.append):
        board.add_step(record(1))
        time.sleep(0.3)
        board.add_step(record(2))
    assert [line["train"]["step"] for line in RunMetrics(ledger).read(STEPS)] == [1, 2]
    assert shown == ["train 1/4 loss 1.00 acc .50 50 tok/s", "train 2/4 loss 0.50 acc .50 50 tok/s"]


def test_the_records_of_an_interrupted_training_are_kept_and_repeated_steps_count_once(tmp_path: Path) -> None:
    """A training that resumes from a checkpoint repeats the steps after it; the last record of a step counts."""
    ledger = Ledger(str(tmp_path))
    ledger.put(OLD_FILE, b'{"time": 1.0, "round": 1, "rows": {}}\nnot json\n')
    for steps in ([1, 2], [2, 3]):
        board, metrics = ProgressBoard(), RunMetrics(ledger)
        with training_steps.followed(1, board.steps, metrics, print):
            for step in steps:
                board.add_step(record(step, tokens=100 * len(steps) + steps[0]))
    records = training_steps.records_of(1, RunMetrics(ledger))
    assert [(r["step"], r["tokens"]) for r in records] == [(1, 201), (2, 202), (3, 202)]
    assert training_steps.records_of(2, RunMetrics(ledger)) == []


def test_a_board_that_was_started_again_loses_no_later_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_steps, "POLL_SECONDS", 0.02)
    boards, metrics = [ProgressBoard()], RunMetrics(Ledger(str(tmp_path)))
    with training_steps.followed(1, lambda position: boards[-1].steps(position), metrics, lambda text: None):
        for steps in ([1, 2, 3], [4], [5, 6]):
            for step in steps:
                boards[-1].add_step(record(step))
            while len(metrics.read(STEPS)) < steps[-1]:
                time.sleep(0.01)
            boards += [ProgressBoard()] if step == 3 else []
    assert [line["train"]["step"] for line in metrics.read(STEPS)] == [1, 2, 3, 4, 5, 6]


def test_records_of_another_round_are_left_out(tmp_path: Path) -> None:
    """A board that does not answer at the start of a training tells all that it has later."""
    metrics, answers = RunMetrics(Ledger(str(tmp_path))), iter([(0, []), (2, [record(9), record(1, round=2)])])
    with training_steps.followed(2, lambda _: next(answers, (2, [])), metrics, lambda text: None):
        pass
    assert [(line["round"], line["train"]["step"]) for line in metrics.read(STEPS)] == [(2, 1)]


def test_the_summary_names_losses_accuracy_speed_and_waiting() -> None:
    records = [record(1), record(2, loss=None, skipped=1, accuracy=None), record(3, accuracy=0.9), record(4, mfu=0.4)]
    found = training_steps.summary(records, {"longer_than_max_tokens": 2})
    curve = found.pop("curve")
    assert found == {
        "steps": 4, "skipped": 1, "dropped": {"longer_than_max_tokens": 2}, "first_loss": 1.0, "last_loss": 0.25,
        "best_accuracy": 0.9, "seconds": 8.0, "tokens": 400, "tokens_per_second": 50.0, "wait_share": 0.25, "mfu": 0.4,
        "memory_gb": 5.0,
    }  # fmt: skip
    assert curve[:2] == [{"step": 1, "loss": 1.0, "accuracy": 0.5}, {"step": 2, "loss": None, "accuracy": None}]
    assert training_steps.summary([], {}) == {}


def test_a_long_curve_has_the_means_of_equally_many_steps() -> None:
    records = [record(step, loss=float(step), accuracy=1.0) for step in range(1, 1001)]
    points = training_steps.curve(records)
    assert len(points) == 112
    assert points[0] == {"step": 9, "loss": 5.0, "accuracy": 1.0}
    assert points[-1]["step"] == 1000


def test_a_round_without_records_of_steps_has_no_curve() -> None:
    assert loss_curve({"round": 1}) is None
    lost = {
        "steps": 1,
        "skipped": 1,
        "dropped": {},
        "tokens": 0,
        "curve": [{"step": 1, "loss": None, "accuracy": None}],
    }
    assert loss_curve({"round": 1, "training": lost}) is None
    assert training_table([{"round": 0}]) is None
    table = training_table([{"round": 1, "training": lost}])
    assert table is not None
    assert [row.name for row in table.rows] == ["steps", "steps skipped, not finite", "loss, first to last step"]


def test_a_training_without_judgements_shows_the_loss_alone() -> None:
    curve = [{"step": step, "loss": 1.0 / step, "accuracy": None} for step in (1, 2)]
    drawn = loss_curve({"round": 2, "training": {"steps": 2, "curve": curve}})
    assert drawn is not None
    assert drawn.text == "Loss 1.00 at the first and 0.50 at the last point. 2 steps."
    assert "right judgements" not in drawn.svg
