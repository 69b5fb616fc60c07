"""From verified candidates to pairs: chosen has no contradicted claim, rejected at least one."""

from collections.abc import Sequence

from vlrm_ray.config import Pairing
from vlrm_ray.ids import digest, seed_of
from vlrm_ray.types import Candidate, ImageCondition, Pair, Prompt, Verdict

NO_CLAIMS = "no_verifiable_claim"
DUPLICATE = "duplicate_text"
NOT_FULL = "unsupported_without_full_image"
NO_PARTNER = "no_partner"
LENGTH = "length_mismatch"
SURPLUS = "surplus"


def pairs_of(prompt: Prompt, candidates: Sequence[Candidate], rule: Pairing) -> tuple[list[Pair], dict[str, str]]:
    """Pairs of one prompt, and for each unused candidate's id the reason.

    A candidate made without the whole image serves only as rejected, and only where an expert
    contradicts it. Negatives of the whole image come first: they differ in pixels, not in style.
    """
    unused: dict[str, str] = {}
    chosen, rejected = _sides(candidates, unused, rule.labels == "self")
    ranked = sorted(
        ((c, r) for c in chosen for r in rejected),
        key=lambda pair: _preference(prompt, *pair),
    )
    pairs: list[Pair] = []
    taken: set[str] = set()
    mismatched: set[str] = set()
    for one, other in ranked:
        ids = {one.candidate_id, other.candidate_id}
        if ids & taken or len(pairs) >= rule.per_prompt:
            continue
        if _length_ratio(one.text, other.text) > rule.max_length_ratio:
            mismatched |= ids
            continue
        taken |= ids
        pairs.append(Pair(digest("pair", *sorted(ids)), one, other))
    for candidate in (*chosen, *rejected):
        if candidate.candidate_id not in taken:
            full = len(pairs) >= rule.per_prompt
            reason = SURPLUS if full else LENGTH if candidate.candidate_id in mismatched else NO_PARTNER
            unused[candidate.candidate_id] = reason
    return pairs, unused


def _sides(
    candidates: Sequence[Candidate], unused: dict[str, str], by_reward: bool
) -> tuple[list[Candidate], list[Candidate]]:
    chosen: list[Candidate] = []
    rejected: list[Candidate] = []
    texts: set[str] = set()
    for candidate in candidates:
        key = candidate.text.strip().casefold()
        if key in texts:
            unused[candidate.candidate_id] = DUPLICATE
        elif (label := _label(candidate, by_reward)) is False:
            rejected.append(candidate)
        elif label is None:
            unused[candidate.candidate_id] = NO_CLAIMS
        elif candidate.condition is not ImageCondition.FULL:
            unused[candidate.candidate_id] = NOT_FULL
        else:
            chosen.append(candidate)
        texts.add(key)
    return chosen, rejected


def _label(candidate: Candidate, by_reward: bool) -> bool | None:
    """Whether a candidate is good; None where nobody can say."""
    if by_reward:
        return None if candidate.reward is None else candidate.reward > 0.5
    if candidate.contradicted:
        return False
    return True if candidate.count(Verdict.SUPPORTED) else None


def _preference(prompt: Prompt, one: Candidate, other: Candidate) -> tuple[int, float, int]:
    whole = 0 if other.condition is ImageCondition.FULL else 1
    tie = seed_of(prompt.prompt_id, one.candidate_id, other.candidate_id)
    return whole, _length_ratio(one.text, other.text), tie


def _length_ratio(one: str, other: str) -> float:
    short, long = sorted((max(1, len(one)), max(1, len(other))))
    return long / short
