"""Entry point of a Ray Train worker.

The driver imports this module too, so it imports torch and transformers only inside the function.
"""

from typing import Any

from vlrm_ray.errors import UserError
from vlrm_ray.reward.training import activity, failures, process_setup
from vlrm_ray.store import garbage_collection


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Train in this worker; `loop_config["task"]` is a `TrainTask`.

    Raises:
        UserError: another attempt would fail in the same way: the input is at fault, or memory is too small.
        WorkerFailure: any other failure, with what the worker was doing.
    """
    process_setup.set_up(on_gpu=loop_config["task"].config.train.gpus > 0)
    with garbage_collection.loading():
        from vlrm_ray.reward.training.train_loop import train

    try:
        train(loop_config["task"])
    except UserError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise UserError(failures.out_of_memory(activity.current(), loop_config["task"].config.train)) from error
        raise failures.WorkerFailure(f"{activity.current()}: {failures.cause_of(error)}") from error
