"""How hard a pair is for the newest reward model, which judges both sides without evidence before critiques are written.

failed    it does not judge both sides rightly, or does not prefer the chosen one
lucky     it judges both rightly, but says something of the image that the experts contradict
mastered  it judges both rightly, and what it says of the image is true: the pair has little left to teach
"""

from collections.abc import Sequence
from enum import StrEnum

from vlrm_ray.config import Selection
from vlrm_ray.ids import falls_in
from vlrm_ray.preferences.critique import parse_critique
from vlrm_ray.types import Pair, ScoredCritique

MASTERED = "mastered"
"""Reason of a pair that is not selected, because the newest version has mastered it."""


class Difficulty(StrEnum):
    """How hard a pair is for the newest reward model."""

    FAILED = "failed"
    LUCKY = "lucky"
    MASTERED = "mastered"


def difficulty_of(unaided: Sequence[ScoredCritique]) -> Difficulty:
    """The difficulty of a pair.

    Args:
        unaided: the newest version's critiques of the chosen and of the rejected response, without evidence.
    """
    chosen, rejected = unaided
    judgements = [parse_critique(critique.text).judgement for critique in unaided]
    if judgements != [True, False] or chosen.reward <= rejected.reward:
        return Difficulty.FAILED
    return Difficulty.LUCKY if chosen.false_statements or rejected.false_statements else Difficulty.MASTERED


def is_kept(pair: Pair, rule: Selection) -> bool:
    """Whether a pair is learned, given its unaided critiques: of mastered ones a share, chosen by their ids."""
    if not pair.unaided or difficulty_of(pair.unaided) is not Difficulty.MASTERED:
        return True
    return falls_in(rule.mastered, MASTERED, pair.pair_id)
