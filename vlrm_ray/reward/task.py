"""What a round's train workers are told to do; imports neither torch nor transformers, as everybody unpickles it."""

from dataclasses import dataclass
from typing import Any

from vlrm_ray.config import Config
from vlrm_ray.ledger import Ledger


@dataclass(frozen=True)
class Task:
    """A fit; small, as each worker gets a copy."""

    config: Config
    round: int
    parts: int
    start: str
    ledger: Ledger


def train_loop(loop_config: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker; `loop_config["task"]` is a `Task`."""
    from vlrm_ray.reward.loop import train

    train(loop_config["task"])
