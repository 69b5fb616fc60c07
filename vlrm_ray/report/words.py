"""Text from models, made fit to be shown: nothing hidden, nothing that steers the page."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Verdict

LONGEST = 1500
"""Characters of one text that a page shows."""
_WORST_FIRST = (Verdict.CONTRADICTED, Verdict.UNVERIFIABLE, Verdict.SUPPORTED)


@dataclass(frozen=True)
class Segment:
    """A stretch of a response; `claims` are the indices of those whose span holds it, the worst verdict first."""

    text: str
    claims: tuple[int, ...] = ()
    verdict: str = ""


def visible(text: str) -> str:
    """The text with control, direction and other invisible characters replaced one for one."""
    return "".join(_visible(character) for character in text)


def shown(text: str, longest: int = LONGEST) -> str:
    """`visible`, cut to what a page can hold, with a note of how much is missing."""
    if len(text) <= longest:
        return visible(text)
    return f"{visible(text[:longest])} … ({len(text) - longest:,} more characters)"


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character)[0] not in "C":
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def segments(text: str, claims: Sequence[CheckedClaim]) -> list[Segment]:
    """The response cut at the ends of its claims' spans; together the segments are the text as `shown`."""
    length = min(len(text), LONGEST)
    spans = [tuple(min(length, max(0, end)) for end in checked.claim.span) for checked in claims]
    cuts = sorted({0, length, *(end for span in spans for end in span)})
    found = []
    for start, end in pairwise(cuts):
        inside = [i for i, (a, b) in enumerate(spans) if a <= start and end <= b]
        inside.sort(key=lambda i: _WORST_FIRST.index(claims[i].finding.verdict))
        worst = claims[inside[0]].finding.verdict.value if inside else ""
        found.append(Segment(visible(text[start:end]), tuple(inside), worst))
    if len(text) > length:
        found.append(Segment(shown(text)[length:]))
    return found


def claim_in_words(claim: Claim) -> str:
    """A claim as a short statement: "circle is red", "2 stars", "circle left of square"."""
    subject, other, value = str(claim.subject), str(claim.object or ""), (claim.value or "").replace("_", " ")
    said = {
        ClaimType.OBJECT: f"there is: {subject}",
        ClaimType.ATTRIBUTE: f"{subject} is {value}",
        ClaimType.COUNT: f"{value} {subject} than {other}" if other else f"{value} × {subject}",
        ClaimType.RELATION: f"{subject} {value} {other}",
        ClaimType.TEXT: f"{subject} reads “{claim.value or ''}”",
    }[claim.type]
    if claim.value == "as_many":
        said = f"as many {subject} as {other}"
    denied = f"not: {said}" if claim.negated else said
    return shown(f"{denied} (hedged)" if claim.hedged else denied, 200)


def plain(name: str) -> str:
    """A name of the code for people: "no_right_judgement_of_chosen" without its underscores."""
    return visible(name).replace("_", " ")
