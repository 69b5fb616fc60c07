"""Entry point of a Ray Train worker. It imports torch and transformers only once it runs: the driver loads it too."""

from typing import Any


def train_loop(loop_config: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker; `loop_config["task"]` is a `Task`."""
    from vlrm_ray.reward.loop import train

    train(loop_config["task"])
