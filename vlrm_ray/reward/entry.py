"""Entry point of a Ray Train worker.

The driver imports this module too, so it imports torch and transformers only inside the function.
"""

from typing import Any


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Train in this worker; `loop_config["task"]` is a `TrainTask`."""
    from vlrm_ray.reward.train_loop import train

    train(loop_config["task"])
