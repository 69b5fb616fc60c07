"""Starts one round's training with Ray Train, from the driver."""

import posixpath
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.reward.entry import train_loop_per_worker
from vlrm_ray.reward.task import TrainTask
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger


def fit(config: Config, ledger: Ledger, round_: int, initial_model: str) -> tuple[str, dict[str, Any]]:
    """Train the reward model on a round's selected pairs.

    Each round has its own Ray Train run name. An interrupted run resumes from its last epoch's checkpoint.

    Args:
        config: configuration of the run.
        ledger: the run's folder; checkpoints go to its `train/`.
        round_: number of the round.
        initial_model: reference of the model to start from, which each worker resolves; see `vlrm_ray.store.models`.

    Returns:
        Path or URI of the model folder to publish, and the metrics of the last epoch.

    Raises:
        UserError: if the workers cannot be started, keep failing or write no checkpoint.
    """
    settings = config.train
    trainer = TorchTrainer(
        train_loop_per_worker,
        train_loop_config={"task": TrainTask(config, round_, initial_model, ledger)},
        torch_config=TorchConfig(backend="nccl" if settings.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.gpus > 0,
            resources_per_worker={"CPU": settings.cpus, **({"GPU": settings.gpus} if settings.gpus else {})},
        ),
        run_config=RunConfig(
            name=f"round-{round_:04d}",
            storage_path=ledger.path("train"),
            storage_filesystem=None if ledger.local else ledger.fs,
            failure_config=FailureConfig(max_failures=settings.max_failures, controller_failure_limit=1),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    result = _run(trainer, config)
    if result.checkpoint is None:
        raise UserError(
            f"the training of round {round_} wrote no checkpoint to {redacted(ledger.location('train'))}; run the same "
            "command again"
        )
    name = posixpath.relpath(result.checkpoint.path, ledger.root)
    return ledger.location(name, "hf"), dict(result.metrics or {})


def _run(trainer: TorchTrainer, config: Config) -> Result:
    """Run the trainer; turns Ray Train's errors into one-line `UserError`s."""
    from ray.train import ControllerError, WorkerGroupError

    settings = config.train
    try:
        with _sigint_handler_restored():
            return trainer.fit()
    except ControllerError as error:
        raise UserError(
            f"training could not start {settings.workers} workers with {settings.cpus} CPU and {settings.gpus} GPU each "
            f"within train.start_timeout={settings.start_timeout} s; free resources or lower train.workers, train.cpus "
            f"or train.gpus ({_last_line(error)})"
        ) from error
    except WorkerGroupError as error:
        causes = "; ".join(f"rank {rank}: {_last_line(e)}" for rank, e in error.worker_failures.items())
        raise UserError(
            f"training failed {settings.max_failures + 1} times (train.max_failures={settings.max_failures}): {causes}"
        ) from error


@contextmanager
def _sigint_handler_restored() -> Iterator[None]:
    """Undo what `fit` does to Ctrl-C: Ray Train handles it by aborting the fit, and keeps doing so after its end."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray replaces the handler in no other thread
            signal.signal(signal.SIGINT, handler)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:300]
