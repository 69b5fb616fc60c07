"""Sentences about a statement: "it is not true that ...", "the claim that ... is false", "I can confirm that ..."."""

import re
from functools import lru_cache
from typing import Literal

from vlrm_ray.claims.scope.text import REMEMBERED, compile_pattern
from vlrm_ray.claims.scope.vocabulary import FRAGMENTS

Stance = Literal["affirmed", "denied"]

_FRAGMENTS = FRAGMENTS | {
    "C": r"(?:(?![,;:]|Q |since|because|to |that )[^ ]+(?: [^ ]+)+)",
    "BEING": r"(?:BE|PAST|IF be|IF PAST|SEEM(?: to be)?|MAY be|IF SHOW PAST)",
    "WRONG": r"(?:(?:W |ONLY )?FALSE|(?:ONLY )?NOT (?:W )?(?:TRUE|so))",
    "ISNTRIGHT": r"(?:ISNT (?:W |ONLY )?(?:TRUE|so)|IFNOT be TRUE)",
    "THECLAIM": r"(?:the|this|that|any|your|their|his|her) (?:A |W )?(?:CLAIM|ACCOUNT)(?: that)?",
}
_DENIED = (
    r"it (?:<BEING> <WRONG>|<ISNTRIGHT>)(?: SAYING)?(?: that)? <C:c>",
    r"it (?:CANNOT|IF NOT|IFNOT) be SAIDTO that <C:c>",
    r"PERSON DENY (?:<THECLAIM> |that )?<C:c>",
    r"PERSON (?:IF NOT|IFNOT|CANNOT) SAY (?:that )?<C:c>",
    r"<THECLAIM> (?:that )?<C:c> (?:<BEING> <WRONG>|<ISNTRIGHT>)",
    r"(?:that|SAYING(?: that)?) <C:c> (?:<BEING> <WRONG>|<ISNTRIGHT>)",
    r"NOBODY CAN SAY that <C:c>",
)
_AFFIRMED = (
    r"it <BEING> TRUE(?: SAYING)?(?: that)? <C:c>",
    r"<THECLAIM> (?:that )?<C:c> <BEING> TRUE",
    r"there (?:BE|CAN be) NO DOUBT (?:about it )?that <C:c>",
    r"it CANNOT be DENIED that <C:c>",
    r"it CAN be (?:VISIBLE|SEE|SAIDTO|REPORT|W) that <C:c>",
    r"(?:NOBODY CAN|PERSON CANNOT) (?:DENY|DOUBT|FORGET) (?:that )?<C:c>",
    r"PERSON (?:CAN |DO )?(?:AGREE|SEE|BE TRUE)(?: <THECLAIM>)? that <C:c>",
    r"PERSON CAN (?:SAY|AGREE|SEE) that <C:c>",
    r"(?:DONOT|DO NOT|NOT) FORGET that <C:c>",
    r"(?:AGREE|SEE) that <C:c>",
    r"(?:the IMAGE SHOW|the W BE|the TRUE BE) that <C:c>",
    r"(?:ONE|ONE SHAPE|this W|NUM SHAPE) BE (?:TRUE|W)(?: BE)?(?: that| :)? <C:c>",
    r"WITHOUT (?:a |any )?DOUBT(?: ,)? <C:c>",
)


def _compiled(stance: Stance, sources: tuple[str, ...]) -> list[tuple[Stance, re.Pattern[str]]]:
    return [(stance, compile_pattern(source, _FRAGMENTS)) for source in sources]


_PATTERNS = [*_compiled("denied", _DENIED), *_compiled("affirmed", _AFFIRMED)]


@lru_cache(REMEMBERED)
def stance_of(text: str) -> tuple[Stance, tuple[int, int]] | None:
    """The first reading of a text as a statement about a statement: the stance, and the range of the other statement."""
    for stance, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            return stance, match.span("c")
    return None
