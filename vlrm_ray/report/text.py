"""Conversion of values and of text that models wrote to text for the page.

Text from models may hold control characters and characters that change the text direction. They are replaced by visible
ones; HTML is escaped by the templates.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Verdict

MAX_CHARACTERS = 1500
"""Length at which a text is cut for the page."""
_WORST_FIRST = (Verdict.CONTRADICTED, Verdict.UNVERIFIABLE, Verdict.SUPPORTED)


@dataclass(frozen=True)
class Segment:
    """A part of a response between two span boundaries.

    Attributes:
        text: the part, ready for the page.
        claims: indices of the claims whose spans contain the part, the worst verdict first.
        verdict: the worst of these verdicts; empty if there is no claim.
    """

    text: str
    claims: tuple[int, ...] = ()
    verdict: str = ""


def replace_invisible(text: str) -> str:
    """Replace each control, direction and other invisible character by one visible character."""
    return "".join(_replace_invisible(character) for character in text)


def display_text(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """The text for the page: without invisible characters, and cut with a note of how much is missing."""
    if len(text) <= max_characters:
        return replace_invisible(text)
    return f"{replace_invisible(text[:max_characters])} … ({len(text) - max_characters:,} more characters)"


def _replace_invisible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character)[0] not in "C":
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def split_at_claims(text: str, claims: Sequence[CheckedClaim]) -> list[Segment]:
    """Split a response at the span boundaries of its claims; the segments joined are `display_text(text)`."""
    length = min(len(text), MAX_CHARACTERS)
    spans = [tuple(min(length, max(0, end)) for end in checked.claim.span) for checked in claims]
    boundaries = sorted({0, length, *(end for span in spans for end in span)})
    segments = []
    for start, end in pairwise(boundaries):
        inside = [i for i, (a, b) in enumerate(spans) if a <= start and end <= b]
        inside.sort(key=lambda i: _WORST_FIRST.index(claims[i].finding.verdict))
        worst = claims[inside[0]].finding.verdict.value if inside else ""
        segments.append(Segment(replace_invisible(text[start:end]), tuple(inside), worst))
    if len(text) > length:
        segments.append(Segment(display_text(text)[length:]))
    return segments


def describe_claim(claim: Claim) -> str:
    """A claim as a short statement, for example "circle is red", "as many dog as cat" or "circle left of square"."""
    subject, other, value = str(claim.subject), str(claim.object or ""), (claim.value or "").replace("_", " ")
    statement = {
        ClaimType.OBJECT: f"{subject} is present",
        ClaimType.ATTRIBUTE: f"{subject} is {value}",
        ClaimType.COUNT: f"{value} {subject} than {other}" if other else f"{value} × {subject}",
        ClaimType.RELATION: f"{subject} {value} {other}",
        ClaimType.TEXT: f"{subject} reads “{claim.value or ''}”",
        ClaimType.STATE: f"{subject} is {value}",
    }[claim.type]
    if claim.value == "as_many":
        statement = f"as many {subject} as {other}"
    if claim.negated:
        statement = f"not: {statement}"
    return display_text(f"{statement} (hedged)" if claim.hedged else statement, 200)


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, with a typographic minus and without negative zero."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def percent(share: float, digits: int = 1) -> str:
    """A share in percent; a no-break space keeps number and sign on one line."""
    return f"{100 * share:.{digits}f}\u00a0%"


def humanize(name: str) -> str:
    """An identifier as words: "no_right_judgement_of_chosen" without its underscores."""
    return replace_invisible(name).replace("_", " ")
