"""Margin-based rejection sampling: which critiques of a pair the reward model learns from."""

import math
from collections import Counter
from collections.abc import Sequence

from vlrm_ray.config import Selection
from vlrm_ray.preferences.critique import parse
from vlrm_ray.types import Pair, ScoredCritique, SelectedPair

NO_JUDGEMENT = "no_judgement"
NOT_FINITE = "reward_not_finite"
LABEL_MASS = "label_mass"
WRONG_CHOSEN = "no_right_judgement_of_chosen"
WRONG_REJECTED = "no_right_judgement_of_rejected"
MARGIN = "margin"
ALIKE = 0.01
"""Rewards that are nearer than this say the same."""
KEEP_ALL = -1.0
"""The margin that rejects nothing."""


def select(pair: Pair, rule: Selection) -> SelectedPair | str:
    """The (critique+, critique-) of the largest margin, or the reason why there is none.

    Of critiques whose rewards differ by less than `ALIKE` the most frequent wording is taken: what is
    said most often is more often sound than what is said with the last digit of certainty.

    Both judgements must be right, both rewards finite and with enough label mass, and the margin
    at least `rule.margin`. With `KEEP_ALL` the first critiques are taken as they are, whatever they judge.
    """
    sides = []
    for critiques, right, wrong in (
        (pair.chosen_critiques, True, WRONG_CHOSEN),
        (pair.rejected_critiques, False, WRONG_REJECTED),
    ):
        usable, reason = _usable(critiques, rule)
        if not usable:
            return reason
        if rule.margin == KEEP_ALL:
            sides.append(usable[0])
            continue
        agreeing = [c for c in usable if parse(c.text).judgement is right]
        if not agreeing:
            return wrong
        sides.append(_best(agreeing, right))
    plus, minus = sides
    if plus.reward - minus.reward < rule.margin:
        return MARGIN
    return SelectedPair(
        pair_id=pair.pair_id,
        chosen=pair.chosen.text,
        rejected=pair.rejected.text,
        chosen_critique=plus.text,
        rejected_critique=minus.text,
        chosen_reward=plus.reward,
        rejected_reward=minus.reward,
    )


def _best(critiques: Sequence[ScoredCritique], right: bool) -> ScoredCritique:
    said = Counter(c.text for c in critiques)
    top = max(c.reward if right else -c.reward for c in critiques)
    near = [c for c in critiques if top - (c.reward if right else -c.reward) < ALIKE]
    return max(near, key=lambda c: said[c.text])


def _usable(critiques: Sequence[ScoredCritique], rule: Selection) -> tuple[list[ScoredCritique], str]:
    finite = [c for c in critiques if math.isfinite(c.yes) and math.isfinite(c.no)]
    judged = [c for c in finite if parse(c.text).judgement is not None]
    massive = [c for c in judged if c.label_mass >= rule.label_mass]
    reason = NOT_FINITE if not finite else NO_JUDGEMENT if not judged else LABEL_MASS
    return massive, reason
