"""What critiques state about the image: places of objects, and sentences that claims can be extracted from.

A description lists objects with their places ("red circle top left"). In the format `compact` the check repeats what it found,
in a short form of its own: "two circles found one no" finds one circle, "yellow star no" finds no yellow star. In `detailed`
the description is free text, and the check quotes the response, so that it does not count.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vlrm_ray.preferences.critique import COMPACT, CritiqueFormat, parse_critique

_PLACE = r"(?:top|middle|bottom) (?:left|center|right)"
_NUMBER = r"(?:no|zero|one|two|three|four|five|six|seven|eight|nine|ten)"
_OBJECT_AT_PLACE = re.compile(
    rf"(?:^|\b(?:above|below|of) )(?:no )?(?P<object>(?:(?! of |above|below)[\w ])+? {_PLACE})\b"
)
_JUDGED = re.compile(r"\s(?P<judged>yes|no)$")
_COMPARED = re.compile(rf"(?:more|fewer|as many) (\w+) (?:than|as) (\w+) found ({_NUMBER}) ({_NUMBER})")
_COUNTED = re.compile(rf"{_NUMBER} ([\w ]+?) found ({_NUMBER})")
_VALUED = re.compile(r"([\w ]+?) \w+ found (\w+)")
_SAYS = re.compile(r"(\w+) ([\w ]+?) says [\w ]+")
_RELATED = re.compile(rf"([\w ]+?) {_PLACE} (above|below|left of|right of) ([\w ]+?) {_PLACE}")
_PRESENT = re.compile(rf"(no )?([\w ]+?)(?: {_PLACE})?")
_SENTENCES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], bool], str]], ...] = (
    (_COMPARED, lambda m, _: f"There are {m[3]} {m[1]}. There are {m[4]} {m[2]}."),
    (_COUNTED, lambda m, _: f"There are {m[2]} {m[1]}."),
    (_VALUED, lambda m, _: f"The {m[1]} is {m[2]}."),
    (_SAYS, lambda m, _: f"The {m[1]} says {m[2]}."),
    (_RELATED, lambda m, holds: f"The {m[1]} is {'' if holds else 'not '}{m[2]} the {m[3]}."),
    (_PRESENT, lambda m, holds: f"There is {'a' if holds is (m[1] is None) else 'no'} {m[2]}."),
)
"""Forms of a check, each with the sentence that says what it found; the first that matches counts."""


@dataclass(frozen=True)
class Statements:
    """What a critique states about the image.

    Attributes:
        places: objects with their places, "red circle top left".
        text: sentences.
    """

    places: tuple[str, ...]
    text: str


def statements_of(critique: str, critique_format: CritiqueFormat) -> Statements:
    """The statements of a critique."""
    parts = parse_critique(critique)
    if critique_format is not COMPACT:
        return Statements((), parts.seen)
    checks = _entries(parts.check)
    described = tuple(entry for entry in _entries(parts.seen) if re.search(rf"{_PLACE}$", entry))
    places = (match["object"] for check in checks for match in _OBJECT_AT_PLACE.finditer(_without_judgement(check)[0]))
    return Statements((*described, *places), " ".join(map(_sentence, checks)))


def false_places(places: Iterable[str], evidence: str) -> int:
    """Number of objects that the evidence, as text (`describe_evidence`), does not show at the stated place.

    An object is shown if one of the evidence at the same place has all its words: "sign top left" is "sign STOP top left".
    """
    shown = [set(entry.split()) for entry in _entries(evidence)]
    return sum(not any(set(place.split()) <= words for words in shown) for place in places)


def _entries(text: str) -> list[str]:
    return [entry for part in text.split(",") if (entry := part.strip())]


def _without_judgement(check: str) -> tuple[str, bool]:
    """A check without its final "yes" or "no", and whether it ends in "yes"."""
    match = _JUDGED.search(check)
    return (check[: match.start()], match["judged"] == "yes") if match else (check, True)


def _sentence(check: str) -> str:
    """What a check found, as a sentence; "" if it has none of the forms."""
    if not _JUDGED.search(check):
        return ""
    text, holds = _without_judgement(check)
    for pattern, sentence in _SENTENCES:
        if match := pattern.fullmatch(text):
            return sentence(match, holds)
    return ""
