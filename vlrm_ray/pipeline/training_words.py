"""What words alone tell of the pairs that a round is trained on."""

from collections.abc import Mapping
from typing import Any

from vlrm_ray.evaluation.words import words_alone
from vlrm_ray.reward.training.training_data import TrainingPairs
from vlrm_ray.store.ledger import Ledger

MOST_PAIRS = 2_000
"""Pairs that are looked at: enough for an interval of about four points, in seconds and with little memory."""


def words_of_round(ledger: Ledger, round_: int, markers: Mapping[int, dict[str, Any]]) -> dict[str, Any] | None:
    """How well words tell the sides of a round's selected pairs apart (`WordsAlone`); None with too few pairs.

    The first pairs are as good as any, as prompts are shuffled.

    Args:
        ledger: the run.
        round_: the round.
        markers: markers of the round's parts, by part.
    """
    table = TrainingPairs(ledger, round_, markers)
    pairs = list(table.read(range(min(len(table), MOST_PAIRS))).values())
    found = words_alone([(p.question, p.chosen, p.rejected) for p in pairs], [p.sha256 for p in pairs])
    return found.as_json() if found else None
