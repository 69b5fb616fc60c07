"""Pairing: match a chosen with a rejected candidate of the same prompt.

A candidate can be chosen if it was given by the user or saw the whole image, no claim of it is contradicted and enough of them
are supported (`pairing.min_verified`, by default one). A candidate is rejected if at least one claim of it is contradicted.
One that the extractor could not read to the end can be rejected, but not chosen: its unread part may be wrong.
Verdicts with less than `pairing.min_confidence` count as open, and so do contradictions of claims that are never supported
("there is no dog", where the detector may miss dogs): with them, the words of a denial alone would be reason enough to reject.
The label that a given response has in the user's data, such as "chosen", decides nothing.
"""

from collections.abc import Sequence

from vlrm_ray.config import Pairing
from vlrm_ray.ids import digest, seed_of
from vlrm_ray.types import CHECKED_TYPES, NEVER_SUPPORTED, Candidate, ImageCondition, Pair, Prompt, Verdict

NO_CLAIMS = "no_verifiable_claim"
UNSURE = "low_confidence"
FEW_VERIFIED = "too_few_supported_claims"
ONE_SIDED = "contradicted_where_never_supported"
INCOMPLETE = "claims_incomplete"
DUPLICATE = "duplicate_text"
NOT_FULL = "unsupported_without_full_image"
NO_PARTNER = "no_partner"
LENGTH = "length_mismatch"
SURPLUS = "surplus"
SIMILAR_LENGTH = 1.25
"""Responses with a smaller ratio of lengths are as good a match as equally long ones. If single letters decided, the same mistakes would
always be learned and others never: to "two stars", "no stars" is nearer than "one star"."""
_MAY_BE_CHOSEN = (ImageCondition.FULL, ImageCondition.GIVEN)


def make_pairs(prompt: Prompt, candidates: Sequence[Candidate], rule: Pairing) -> tuple[list[Pair], dict[str, str]]:
    """Match the candidates of one prompt.

    Each candidate is used at most once. Rejected candidates that saw the whole image, or were given, come first: they
    differ from the chosen one in visual truth rather than in style. Among these, pairs of similar length come first; those whose
    lengths differ by less than `SIMILAR_LENGTH` are in random order.

    Returns:
        The pairs, and for each candidate that is in no pair the reason, by candidate id.
    """
    unused: dict[str, str] = {}
    chosen, rejected = _split_by_label(candidates, unused, rule)
    ranked = sorted(
        ((c, r) for c in chosen for r in rejected),
        key=lambda pair: _rank(prompt, *pair),
    )
    pairs: list[Pair] = []
    taken: set[str] = set()
    mismatched: set[str] = set()
    for good, bad in ranked:
        ids = {good.candidate_id, bad.candidate_id}
        if ids & taken or len(pairs) >= rule.per_prompt:
            continue
        if _length_ratio(good.text, bad.text) > rule.max_length_ratio:
            mismatched |= ids
            continue
        taken |= ids
        pairs.append(Pair(digest("pair", *sorted(ids)), good, bad))
    for candidate in (*chosen, *rejected):
        if candidate.candidate_id not in taken:
            full = len(pairs) >= rule.per_prompt
            reason = SURPLUS if full else LENGTH if candidate.candidate_id in mismatched else NO_PARTNER
            unused[candidate.candidate_id] = reason
    return pairs, unused


def _split_by_label(
    candidates: Sequence[Candidate], unused: dict[str, str], rule: Pairing
) -> tuple[list[Candidate], list[Candidate]]:
    """Split into possible chosen and rejected candidates; the reasons for all others go into `unused`."""
    chosen: list[Candidate] = []
    rejected: list[Candidate] = []
    texts: set[str] = set()
    for candidate in candidates:
        key = candidate.text.strip().casefold()
        if key in texts:
            unused[candidate.candidate_id] = DUPLICATE
        elif (label := _label(candidate, rule)) is False:
            rejected.append(candidate)
        elif label is not True:
            unused[candidate.candidate_id] = label
        elif candidate.condition not in _MAY_BE_CHOSEN:
            unused[candidate.candidate_id] = NOT_FULL
        else:
            chosen.append(candidate)
        texts.add(key)
    return chosen, rejected


def _label(candidate: Candidate, rule: Pairing) -> bool | str:
    """Whether a candidate is good: by its verdicts, or by the reward model's own score. The reason if it is undecided."""
    if rule.labels == "self":
        return NO_CLAIMS if candidate.reward is None else candidate.reward > 0.5
    decided = [c.finding for c in candidate.claims if c.finding.verdict is not Verdict.UNVERIFIABLE]
    sure = [f.verdict for f in decided if f.confidence >= rule.min_confidence and f.reason != NEVER_SUPPORTED]
    if Verdict.CONTRADICTED in sure:
        return False
    if not candidate.fully_read:
        return INCOMPLETE
    if not decided:
        return NO_CLAIMS
    if any(finding.reason == NEVER_SUPPORTED for finding in decided):
        return ONE_SIDED
    doubtful = any(finding.verdict is Verdict.CONTRADICTED for finding in decided)  # though not surely contradicted
    if not sure or doubtful:
        return UNSURE
    counted = sum(c.claim.type in CHECKED_TYPES and not c.claim.hedged for c in candidate.claims)
    enough = len(sure) >= rule.min_verified.number and len(sure) >= rule.min_verified.share * counted
    return True if enough else FEW_VERIFIED


def _rank(prompt: Prompt, chosen: Candidate, rejected: Candidate) -> tuple[int, float, int]:
    """Sort key of a possible pair, best first; ties are broken by a hash of the ids."""
    without_full_image = 0 if rejected.condition in _MAY_BE_CHOSEN else 1
    tie = seed_of(prompt.prompt_id, chosen.candidate_id, rejected.candidate_id)
    return without_full_image, max(SIMILAR_LENGTH, _length_ratio(chosen.text, rejected.text)), tie


def _length_ratio(a: str, b: str) -> float:
    short, long = sorted((max(1, len(a)), max(1, len(b))))
    return long / short
