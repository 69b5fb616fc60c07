"""Starts one round's training with Ray Train, from the driver.

Nothing waits for ever: workers get their resources within `train.start_timeout`, and a collective operation or a report
to Ray Train ends within `train.step_timeout`. See failures.py for what happens to the ranks.
"""

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import (
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer

from vlrm_ray.config import Config, Train
from vlrm_ray.errors import UserError
from vlrm_ray.reward.training import failures
from vlrm_ray.reward.training.entry import train_loop_per_worker
from vlrm_ray.reward.training.task import TrainTask
from vlrm_ray.reward.training.training_data import TrainingPairs
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger

HEALTH_CHECK_SECONDS = 600
"""A worker whose process does not answer for so long, or for `train.step_timeout` if that is shorter, counts as dead."""
POLL_SECONDS = 0.5
"""Time between two looks of Ray Train at its workers; Ray's 2 s are lost at the end of every training."""


def fit(
    config: Config,
    ledger: Ledger,
    round_: int,
    initial_model: str,
    *,
    board: Any = None,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[str, dict[str, Any]]:
    """Train the reward model on a round's selected pairs.

    Each round has its own Ray Train run name, so an interrupted run and a failed attempt resume from the latest
    checkpoint. A failed attempt is repeated up to `train.max_failures` times, unless a worker has raised a `UserError`:
    the next attempt would fail in the same way.

    Args:
        config: configuration of the run.
        ledger: the run's folder; checkpoints go to its `train/`.
        round_: number of the round.
        initial_model: reference of the model to start from, which each worker resolves; see `vlrm_ray.store.models`.
        board: handle of the driver's progress board, which gets the records of the steps.
        log: prints a line; called when an attempt has failed.

    Returns:
        Path or URI of the model folder to publish, and the metrics of the last report.

    Raises:
        UserError: if there are fewer pairs than workers, or the workers cannot be started, keep failing or write no
            checkpoint.
    """
    pairs = len(TrainingPairs(ledger, round_))
    if pairs < config.train.workers:
        raise UserError(
            f"round {round_} has {pairs} selected pairs for train.workers={config.train.workers}; each worker needs a pair: "
            f"set train.workers={max(1, pairs)} or fewer, or raise prompts.per_round"
        )
    task = TrainTask(config, round_, initial_model, ledger, board)
    result = _run(lambda: _trainer(task), config, log)
    if result.checkpoint is None:
        raise UserError(
            f"the training of round {round_} wrote no checkpoint to {redacted(ledger.location('train'))}; run the same "
            "command again"
        )
    name = posixpath.relpath(result.checkpoint.path, ledger.root)
    return ledger.location(name, "hf"), dict(result.metrics or {})


class _Trainer(TorchTrainer):  # type: ignore[misc]  # Ray Train is not typed
    """Ray Train's trainer, which Ctrl-C stops as it stops the rest of a run.

    Ray Train sets a handler that ends the program from inside, without a word and with a status of its own.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to the handler of the program."""


def _trainer(task: TrainTask) -> TorchTrainer:
    settings, ledger = task.config.train, task.ledger
    return _Trainer(
        train_loop_per_worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if settings.gpus else "gloo", timeout_s=settings.step_timeout),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.gpus > 0,
            resources_per_worker={"CPU": settings.cpus, **({"GPU": settings.gpus} if settings.gpus else {})},
            label_selector=task.config.cluster.labels.get("train") or None,
        ),
        run_config=RunConfig(
            name=f"round-{task.round:04d}",
            storage_path=ledger.path("train"),
            storage_filesystem=None if ledger.local else ledger.fs,
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=1),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )


def _run(trainer: Callable[[], TorchTrainer], config: Config, log: Callable[[str], None]) -> Result:
    """Run a trainer until it succeeds or has failed too often; turns Ray Train's errors into one-line `UserError`s."""
    settings = config.train
    for attempt in range(1, settings.max_failures + 2):
        try:
            with _timeouts(settings):
                return trainer().fit()
        except (ControllerError, WorkerGroupError) as error:
            line = _failure(error, settings, config.cluster.nodes_of("train"))
            if attempt > settings.max_failures:
                times = f"{attempt} times" if attempt > 1 else "once"
                raise UserError(
                    f"training failed {times} (train.max_failures={settings.max_failures}): {line}"
                ) from error
            log(f"training failed, attempt {attempt + 1} resumes from the latest checkpoint: {line}")
    raise AssertionError("unreachable")


def _failure(error: TrainingFailedError, settings: Train, nodes: str) -> str:
    """A failed attempt in one line; raises UserError if another attempt cannot help. `nodes` are those of train workers."""
    if isinstance(error, WorkerGroupError):
        if line := failures.unrecoverable(error.worker_failures, settings.workers):
            raise UserError(line) from error
        return failures.explain(error.worker_failures, settings)
    failure = getattr(error, "controller_failure", error)
    if isinstance(failure, RayActorError):
        return f"a worker was lost while the workers started: {failures.died(failure, settings)}"
    cause = failures.cause_of(failure)
    if not cause.startswith(("WorkerGroupStartup", "InsufficientClusterResources")):
        return f"Ray Train could not run the training: {cause}"
    free = ray.available_resources()
    raise UserError(
        f"training could not start {settings.workers} workers with {settings.cpus:g} CPU and {settings.gpus:g} GPU each"
        f"{f' on nodes with {nodes}' if nodes else ''} within train.start_timeout={settings.start_timeout} s (free in the whole "
        f"cluster: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU); free resources, lower train.workers, train.cpus or "
        f"train.gpus, or set cluster.placement=phased so that engines stop during training ({cause})"
    ) from error


@contextmanager
def _timeouts(settings: Train) -> Iterator[None]:
    """Ray Train's own timeouts, which it reads from the environment; variables that the user has set take precedence."""
    values: Mapping[str, float] = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": POLL_SECONDS,
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": settings.start_timeout,
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": settings.step_timeout,
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": min(HEALTH_CHECK_SECONDS, settings.step_timeout),
    }
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: str(values[name]) for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
