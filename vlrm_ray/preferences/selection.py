"""Margin-based rejection sampling: which critiques of a pair the reward model is trained on.

    reward(critique) = p(Yes) / (p(Yes) + p(No))     `types.ScoredCritique.reward`
    margin(pair)     = reward(chosen, critique+) - reward(rejected, critique-)     `types.SelectedPair.margin`
    margin(side)     = p(right) - p(wrong) as shares of p(Yes) + p(No): 2 reward - 1 of the chosen side, 1 - 2 reward of the rejected

`select` takes the best critique of each side and keeps the pair if its margin, the mean of those of its sides, reaches
`selection.margin`. Of a pair with only one side that is judged rightly, or surely enough, that side is learned alone (`selection.sides`).
The method is that of VL-GenRM (arXiv 2506.13888).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from vlrm_ray.config import Selection
from vlrm_ray.preferences.critique import parse_critique
from vlrm_ray.types import Pair, ScoredCritique, SelectedPair

NO_JUDGEMENT = "no_judgement"
NOT_FINITE = "reward_not_finite"
LABEL_MASS = "label_mass"
WRONG_CHOSEN = "no_right_judgement_of_chosen"
WRONG_REJECTED = "no_right_judgement_of_rejected"
MARGIN = "margin"
CITES_EXPERTS = "critiques_cite_the_experts"
FALSE_STATEMENTS = "critiques_state_what_is_false"
_CITES_EXPERTS = re.compile(
    r"\b(?:detectors|detections|reliable detector|detection results?)\b|\bdetected (?:object|item)s?\b|\b(?:object|item)s? detected\b"
    r"|\bthe detector (?:saw|sees|found|finds|lists?|reports?|shows?|did|does|has|detect)|\b(?:the|this) (?:given |provided )?hint\b",
    re.IGNORECASE,
)
"""Words with which a critique gives away that its writer was told what the experts saw."""
REWARD_TOLERANCE = 0.01
"""Rewards that differ by less than this count as equal."""
KEEP_ALL = -1.0
"""Value of `selection.margin` that rejects no pair."""


def select(pair: Pair, rule: Selection) -> SelectedPair | str:
    """Select one critique of each side, with the largest margin.

    A critique is usable if its reward is finite, its judgement can be read and its label mass p(Yes) + p(No) is at
    least `rule.label_mass`. The pair is kept if each side has a usable critique with the correct judgement and the
    margin is at least `rule.margin`. With `rule.sides == "either"` a pair is kept too if one side alone has such a critique and
    reaches the margin; then that side alone is learned. Among critiques whose rewards differ by less than `REWARD_TOLERANCE`, the text
    that was sampled most often is taken, because frequent texts are more often correct.

    A critique that cites the experts is not learned, because the trained model is not given their evidence. One whose writer had to be
    asked for the judgement is used only if a side has no other: it breaks off.

    With `rule.checked`, a critique is not learned if the evidence contradicts one of its statements: it may have come to the right
    judgement by a wrong count. With `rule.own`, the unaided critique comes first; see `candidates_of`.

    With `rule.margin == KEEP_ALL` the first usable critique of each side is taken, whatever its judgement.

    Returns:
        The selected pair, or the reason why the pair is dropped.
    """
    sides = [best_of(candidates_of(pair, side, rule.own), correct, rule) for side, correct in enumerate((True, False))]
    reasons = [side for side in sides if isinstance(side, str)]
    if reasons and (rule.sides == "both" or len(reasons) == len(sides)):
        return reasons[0]
    chosen, rejected = (None if isinstance(side, str) else side for side in sides)
    selected = SelectedPair(pair, chosen, rejected)
    if selected.margin is not None and selected.margin >= rule.margin:
        return selected
    if rule.sides == "either" and chosen and 2 * chosen.reward - 1 >= rule.margin:
        return SelectedPair(pair, chosen, None)
    if rule.sides == "either" and rejected and 1 - 2 * rejected.reward >= rule.margin:
        return SelectedPair(pair, None, rejected)
    return MARGIN


def best_of(critiques: Sequence[ScoredCritique], correct: bool, rule: Selection) -> ScoredCritique | str:
    """The critique of a side that is learned, or the reason why none is.

    Args:
        critiques: the critiques of the side.
        correct: the right judgement: Yes (True) for the chosen side, No for the rejected one.
        rule: see `select`.
    """
    usable, reason = usable_critiques(critiques, rule.label_mass)
    if not usable:
        return reason
    if rule.margin == KEEP_ALL:
        return next(iter(_truthful(usable, rule)), FALSE_STATEMENTS)
    agreeing = [c for c in usable if parse_critique(c.text).judgement is correct]
    if not agreeing:
        return WRONG_CHOSEN if correct else WRONG_REJECTED
    agreeing = [c for c in agreeing if not _CITES_EXPERTS.search(c.text)]
    if not agreeing:
        return CITES_EXPERTS
    truthful = _truthful(agreeing, rule)
    if not truthful:
        return FALSE_STATEMENTS
    return _surest([c for c in truthful if not c.asked] or truthful, correct)


def candidates_of(pair: Pair, side: int, own: bool) -> tuple[ScoredCritique, ...]:
    """The critiques that one is selected of, of the chosen (0) or the rejected (1) candidate.

    These are the critiques written from the evidence. With `own`, it is the unaided one alone, where its judgement is right
    and it states nothing false.
    """
    if own and pair.unaided:
        unaided = pair.unaided[side]
        if parse_critique(unaided.text).judgement is (side == 0) and not unaided.false_statements:
            return (unaided,)
    return (pair.chosen_critiques, pair.rejected_critiques)[side]


def _truthful(critiques: Sequence[ScoredCritique], rule: Selection) -> list[ScoredCritique]:
    """With `rule.checked` the critiques that state nothing false, else all."""
    return [c for c in critiques if not (rule.checked and c.false_statements)]


def _surest(critiques: Sequence[ScoredCritique], correct: bool) -> ScoredCritique:
    """The critique with the highest (for Yes) or lowest (for No) reward; the most frequent text among equal ones."""
    frequency = Counter(c.text for c in critiques)
    top = max(c.reward if correct else -c.reward for c in critiques)
    near = [c for c in critiques if top - (c.reward if correct else -c.reward) < REWARD_TOLERANCE]
    return max(near, key=lambda c: frequency[c.text])


def usable_critiques(critiques: Sequence[ScoredCritique], label_mass: float) -> tuple[list[ScoredCritique], str]:
    """The critiques whose reward counts, and the reason to report if there are none.

    A critique counts if its probabilities are finite, its judgement can be read, and p(Yes) + p(No) is at least
    `label_mass`.
    """
    finite = [c for c in critiques if math.isfinite(c.yes) and math.isfinite(c.no)]
    judged = [c for c in finite if parse_critique(c.text).judgement is not None]
    confident = [c for c in judged if c.label_mass >= label_mass]
    reason = NOT_FINITE if not finite else NO_JUDGEMENT if not judged else LABEL_MASS
    return confident, reason
