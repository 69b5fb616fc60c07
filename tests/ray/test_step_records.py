"""Records of training steps travel from a worker to the driver's `metrics/`, without a file that both see."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.progress_board import ProgressBoard
from tests.ray.fits import START, commit_selected_pairs
from vlrm_ray import config as configuration
from vlrm_ray.pipeline import training_steps
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.run_metrics import RunMetrics
from vlrm_ray.reward.training import fit
from vlrm_ray.reward.training.step_records import StepRecord, StepRecorder
from vlrm_ray.store.ledger import Ledger

pytestmark = pytest.mark.usefixtures("ray_cluster")


def three_steps(loop_config: dict[str, Any]) -> None:
    """Stands for the training loop of one worker: three records, then a checkpoint."""
    import ray.train
    from ray.train import Checkpoint

    recorder = StepRecorder(loop_config["task"].board)
    for step in (1, 2, 3):
        recorder.add(StepRecord(1, 1, step, 3, 1 / step, 1.0, 1.0, None, 0.5, 1.0, 1e-4, 10, 1.0, 0.0, 10.0, None, 1.0))
    recorder.close()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "progress.json").write_text("{}")
        ray.train.report({"loss": 0.3}, checkpoint=Checkpoint.from_directory(folder))


def test_the_driver_writes_the_records_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "train_loop_per_worker", three_steps)
    ledger, board = Ledger(str(tmp_path / "run")), ray.remote(ProgressBoard).options(num_cpus=0).remote()
    commit_selected_pairs(ledger, 1)
    metrics = RunMetrics(ledger)
    config = configuration.load(None, ["train.workers=1", "train.cpus=0.5"])
    shown = list[str]()

    with training_steps.followed(1, BoardClient(board).steps, metrics, shown.append):
        fit.fit(config, ledger, 1, START, board=board)
    assert [record["step"] for record in training_steps.records_of(1, RunMetrics(ledger))] == [1, 2, 3]
    assert shown[-1] == "train 3/3 loss 0.33 acc .50 10 tok/s"
    assert (ledger.get("metrics/steps-00000.jsonl") or b"").count(b"\n") == 3
