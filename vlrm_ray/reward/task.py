"""What a round's train workers are told to do; imports neither torch nor transformers, as everybody unpickles it."""

from dataclasses import dataclass

from vlrm_ray.config import Config
from vlrm_ray.store.ledger import Ledger


@dataclass(frozen=True)
class Task:
    """A fit; small, as each worker gets a copy."""

    config: Config
    round: int
    parts: int
    start: str
    ledger: Ledger
