"""A training that was interrupted goes on at the step of its checkpoint, to the weights of one that was not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ray.fits import START, fitted, largest_difference, new_ledger
from vlrm_ray.errors import UserError
from vlrm_ray.reward.training import entry, fit

pytestmark = pytest.mark.usefixtures("ray_cluster")
TOLERANCE = 1e-5
"""Largest difference of a weight."""


def interrupted_after_step_4(loop_config: dict[str, Any], interrupt: Callable[[], None]) -> None:
    """The training loop; an attempt that has no checkpoint to start from is interrupted after step 4, when it is saved.

    An epoch has three steps, so the checkpoint lies within the second one.
    """
    import ray.train

    from vlrm_ray.reward.training.train_loop import Worker

    train_step, first_attempt = Worker.train_step, ray.train.get_checkpoint() is None

    def step(self: Worker, *arguments: Any) -> Any:
        if first_attempt and self.step == 4:
            self.checkpoints.finish()
            time.sleep(5)  # until Ray Train has taken up the report
            interrupt()
        return train_step(self, *arguments)

    Worker.train_step = step  # type: ignore[assignment, method-assign]
    entry.train_loop_per_worker(loop_config)


def fails_after_step_4(loop_config: dict[str, Any]) -> None:
    """All workers fail."""

    def interrupt() -> None:
        raise KeyError("interrupted")

    interrupted_after_step_4(loop_config, interrupt)


def is_killed_after_step_4(loop_config: dict[str, Any]) -> None:
    """The process of one worker is killed, as by the kernel when memory is short; the other waits for it."""

    def interrupt() -> None:
        import ray.train

        if ray.train.get_context().get_world_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    interrupted_after_step_4(loop_config, interrupt)


def test_the_next_attempt_goes_on_after_the_last_saved_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit_of_two: Path
) -> None:
    monkeypatch.setattr(fit, "train_loop_per_worker", is_killed_after_step_4)
    lines: list[str] = []
    folder, steps = fitted(new_ledger(tmp_path), "train.workers=2", log=lines.append)
    assert len(lines) == 1
    assert "rank 1: its process died" in lines[0]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert largest_difference(folder, fit_of_two) < TOLERANCE
    assert largest_difference(folder, Path(START)) > 1e-4


def test_one_worker_goes_on_with_what_two_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit_of_two: Path
) -> None:
    ledger = new_ledger(tmp_path)
    monkeypatch.setattr(fit, "train_loop_per_worker", fails_after_step_4)
    with pytest.raises(UserError, match="interrupted"):
        fitted(ledger, "train.workers=2", "train.max_failures=0")
    folder, steps = fitted(ledger, "train.workers=1")
    assert steps == [5, 6]
    assert largest_difference(folder, fit_of_two) < TOLERANCE


def test_the_mean_of_two_fits_is_the_same_if_the_second_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit_of_two: Path
) -> None:
    """Two fits of an epoch each: step 4 is the first of the second one."""
    twice = ("train.workers=2", "train.fits=2", "train.epochs=1")
    whole, _ = fitted(new_ledger(tmp_path / "whole"), *twice)
    ledger = new_ledger(tmp_path)
    monkeypatch.setattr(fit, "train_loop_per_worker", fails_after_step_4)
    with pytest.raises(UserError, match="interrupted"):
        fitted(ledger, *twice, "train.max_failures=0")
    folder, steps = fitted(ledger, *twice)
    assert steps == [5, 6]
    assert largest_difference(folder, whole) < TOLERANCE
    assert largest_difference(folder, fit_of_two) > TOLERANCE
