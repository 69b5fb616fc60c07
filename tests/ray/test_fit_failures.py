"""How a training fails: in one line that names the rank and what it did, soon, and without attempts that cannot help.

The loops here are a few lines each; they stand for the training loop, whose collective operations they share.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ray.fits import START, commit_selected_pairs
from vlrm_ray import config as configuration
from vlrm_ray.errors import UserError
from vlrm_ray.reward.training import activity, failures, fit
from vlrm_ray.store.ledger import Ledger

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = ["train.workers=2", "train.cpus=0.5"]


def _rank() -> int:
    import ray.train

    return int(ray.train.get_context().get_world_rank())


def _collective() -> None:
    import torch
    import torch.distributed as dist

    dist.all_reduce(torch.zeros(1))


def _as_worker(loop: Callable[[], None]) -> None:
    """Run a loop as `entry.train_loop_per_worker` runs the training loop."""
    activity.doing("step 3 of 34")
    try:
        loop()
    except UserError:
        raise
    except Exception as error:
        raise failures.WorkerFailure(f"{activity.current()}: {failures.cause_of(error)}") from error


Loop = Callable[[dict[str, Any]], None]


def rank_1(action: Callable[[], None]) -> Loop:
    """A loop in which rank 1 does something while rank 0 waits for it in a collective operation."""

    def loop() -> None:
        if _rank() == 1:
            action()
        _collective()

    return lambda _: _as_worker(loop)


def raises() -> None:
    raise KeyError("lost")


def dies() -> None:
    time.sleep(3)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> None:
    time.sleep(300)


def refuses() -> None:
    """Meets input that no further attempt would mend."""
    raise UserError("the pairs pair-0, pair-1 give a loss that is not finite")


def hangs_before_a_report(_: dict[str, Any]) -> None:
    """Rank 1 hangs while rank 0 waits for it in Ray Train's report."""
    import ray.train

    def loop() -> None:
        if _rank() == 1:
            time.sleep(300)
        ray.train.report({"epoch": 1})

    _as_worker(loop)


def fails_once(_: dict[str, Any]) -> None:
    """Rank 1 fails after a checkpoint; the attempt that finds the checkpoint succeeds."""
    import ray.train
    from ray.train import Checkpoint

    def loop() -> None:
        resumed = ray.train.get_checkpoint() is not None
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"of-{_rank()}").write_text("")
            ray.train.report({"resumed": resumed}, checkpoint=Checkpoint.from_directory(folder))
        if not resumed:
            time.sleep(3)  # until Ray Train has taken up the report
            if _rank() == 1:
                raise KeyError("lost")
            _collective()

    _as_worker(loop)


def failure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loop: Loop,
    retries: int = 0,
    step_timeout: int = 1800,
) -> tuple[str, list[str], float]:
    """The error of a fit with a loop, the lines that it logs, and its duration in seconds."""
    monkeypatch.setattr(fit, "train_loop_per_worker", loop)
    config = configuration.load(
        None, [*SETTINGS, f"train.max_failures={retries}", f"train.step_timeout={step_timeout}"]
    )
    ledger, lines, start = Ledger(str(tmp_path / "run")), list[str](), time.monotonic()
    commit_selected_pairs(ledger, 2)
    with pytest.raises(UserError) as caught:
        fit.fit(config, ledger, 1, START, log=lines.append)
    assert "\n" not in str(caught.value)
    return str(caught.value), lines, time.monotonic() - start


def test_a_rank_that_raises_is_named_with_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank waits in a collective operation and is ended long before its timeout. A second attempt is made."""
    message, lines, seconds = failure(tmp_path, monkeypatch, rank_1(raises), retries=1)
    assert message == "training failed 2 times (train.max_failures=1): rank 1: step 3 of 34: KeyError: 'lost'"
    assert seconds < 600
    assert lines == [
        "training failed, attempt 2 resumes from the latest checkpoint: rank 1: step 3 of 34: KeyError: 'lost'"
    ]


def test_the_next_attempt_resumes_from_the_latest_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "train_loop_per_worker", fails_once)
    ledger, lines = Ledger(str(tmp_path / "run")), list[str]()
    commit_selected_pairs(ledger, 2)
    _, metrics = fit.fit(configuration.load(None, SETTINGS), ledger, 1, START, log=lines.append)
    assert metrics == {"resumed": True}
    assert len(lines) == 1


def test_a_rank_whose_process_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _, seconds = failure(tmp_path, monkeypatch, rank_1(dies))
    assert seconds < 300
    assert message.startswith("training failed once (train.max_failures=0): rank 1: its process died: ")


def test_a_rank_that_hangs_ends_the_training_after_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _, seconds = failure(tmp_path, monkeypatch, rank_1(hangs), step_timeout=10)
    assert "rank 0 waited longer than train.step_timeout=10 s for others (step 3 of 34: " in message
    assert seconds < 300


def test_a_rank_that_does_not_report_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _, seconds = failure(tmp_path, monkeypatch, hangs_before_a_report, step_timeout=10)
    assert "rank 0 waited longer than train.step_timeout=10 s for others" in message
    assert seconds < 300


def test_bad_input_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, lines, _ = failure(tmp_path, monkeypatch, rank_1(refuses), retries=2)
    assert (message, lines) == ("rank 1: the pairs pair-0, pair-1 give a loss that is not finite", [])


def test_more_ranks_than_pairs_end_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "TorchTrainer", None)
    ledger = Ledger(str(tmp_path / "run"))
    commit_selected_pairs(ledger, 1)
    with pytest.raises(UserError, match=r"round 1 has 1 selected pairs for train.workers=2; .* set train.workers=1"):
        fit.fit(configuration.load(None, SETTINGS), ledger, 1, START)
