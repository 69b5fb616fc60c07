"""The task that is sent to each train worker. It imports neither torch nor transformers, because the driver loads it."""

from dataclasses import dataclass
from typing import Any

from vlrm_ray.config import Config
from vlrm_ray.store.ledger import Ledger


@dataclass(frozen=True)
class TrainTask:
    """Description of one round's training; small, because each worker gets a copy.

    Attributes:
        config: configuration of the run.
        round: number of the round; 1 is the first.
        initial_model: reference of the model that training starts from, as in `vlrm_ray.store.models`.
        ledger: the run's folder.
        board: handle of the driver's progress board, for the records of the steps; None sends none.
    """

    config: Config
    round: int
    initial_model: str
    ledger: Ledger
    board: Any = None
