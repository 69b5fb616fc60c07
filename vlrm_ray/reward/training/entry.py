"""Entry point of a Ray Train worker.

The driver imports this module too, so it imports torch and transformers only inside the function.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vlrm_ray.errors import UserError
from vlrm_ray.reward.training import activity, failures


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Train in this worker; `loop_config["task"]` is a `TrainTask`.

    Raises:
        UserError: another attempt would fail in the same way: the input is at fault, or memory is too small.
        WorkerFailure: any other failure, with what the worker was doing.
    """
    with _fast_imports():
        from vlrm_ray.reward.training.train_loop import train

    try:
        train(loop_config["task"])
    except UserError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise UserError(failures.out_of_memory(activity.current(), loop_config["task"].config.train)) from error
        raise failures.WorkerFailure(f"{activity.current()}: {failures.cause_of(error)}") from error


@contextmanager
def _fast_imports() -> Iterator[None]:
    """Context manager: the garbage collector is off, which takes a quarter of the time of large imports.

    Later collections leave out the objects that are there in the end.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
