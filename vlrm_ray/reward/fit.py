"""One round's fit by Ray Train, from the driver's side."""

from pathlib import Path
from typing import Any

from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.reward.entry import train_loop
from vlrm_ray.reward.task import Task
from vlrm_ray.store.ledger import Ledger


def fit(config: Config, ledger: Ledger, round_: int, parts: int, start: str) -> tuple[Path, dict[str, Any]]:
    """Train on a round's selected pairs; returns the folder to publish, and the last metrics.

    Each round has its own run name: one that was started before goes on from its last epoch. Raises
    UserError when the workers cannot be had or keep failing.
    """
    settings = config.train
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"task": Task(config, round_, parts, start, ledger)},
        torch_config=TorchConfig(backend="nccl" if settings.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.gpus > 0,
            resources_per_worker={"CPU": settings.cpus, **({"GPU": settings.gpus} if settings.gpus else {})},
        ),
        run_config=RunConfig(
            name=f"round-{round_:04d}",
            storage_path=ledger.path("train") if ledger.local else f"{ledger.uri}/train",
            failure_config=FailureConfig(max_failures=settings.max_failures, controller_failure_limit=1),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    result = _run(trainer, config)
    if result.checkpoint is None:
        raise UserError(f"the fit of round {round_} wrote no checkpoint")
    folder = Path(result.checkpoint.to_directory()) if not ledger.local else Path(result.checkpoint.path)
    return folder / "hf", dict(result.metrics or {})


def _run(trainer: TorchTrainer, config: Config) -> Result:
    from ray.train import ControllerError, WorkerGroupError

    settings = config.train
    try:
        return trainer.fit()
    except ControllerError as error:
        raise UserError(
            f"training could not start {settings.workers} workers with {settings.cpus} CPU and {settings.gpus} GPU each "
            f"within {settings.start_timeout} s; free resources or lower train.workers, train.cpus or train.gpus "
            f"({_first_line(error)})"
        ) from error
    except WorkerGroupError as error:
        causes = "; ".join(f"rank {rank}: {_first_line(e)}" for rank, e in error.worker_failures.items())
        raise UserError(f"training failed {settings.max_failures + 1} times: {causes}") from error


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:300]
