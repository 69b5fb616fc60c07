"""Splits a sentence into groups of clauses, and a group into clauses.

An operator such as "if" applies to its whole group. A group ends where the next clause is asserted on its own: at a
semicolon or dash, or before "but" and "although" if a clause follows. Within a group, clauses are joined by commas, "and"
or "because".
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from vlrm_ray.claims.scope.text import REMEMBERED, compile_pattern
from vlrm_ray.claims.scope.vocabulary import FRAGMENTS

Range = tuple[int, int]
"""Start and end in the text of a sentence, as units."""

_FRAGMENTS = FRAGMENTS | {
    "VERB": r"(?:BE|ISNT|IF|PAST|SHOW|CAN|CANNOT|MAY|SEEM|DO|DONOT|READ|LACK|sits?|stands?|lies|exists?|W)",
    "FINITE": r"(?:BE|ISNT|IF|PAST|SHOW|CAN|CANNOT|MAY|SEEM|DO|DONOT|READ|LACK)",
    "CLAUSE": r"(?:(?:HERE |, )*(?:there <VERB>|(?:it|this|that|these|those|they|he|she|NONE|NOTHING|NOBODY|NEITHER|ALL|MANY|SOMEBODY|some) "
    r"(?:of (?:them|these|those|which|(?:the|these) <NP>) )?<FINITE>|PERSON [^ ]+|SOMEBODY <VERB>|ONE <FINITE>|here BE|"
    r"(?:NO |NOT |NEITHER )?<NP> (?:of <NP> )?<FINITE>|SAYING|SHAPE <FINITE>)(?= |$))",
    "OFTHEM": r"(?:(?:NOT )?ALL|NONE|NEITHER|NO|MOST|MANY|SOMEBODY|(?:ONLY )?(?:NUM|ONE)) THEM",
    "CONTRAST": r"(?:but|yet|though|although|even though|whereas|while|HERE|however)",
}
_STRONG = compile_pattern(
    r" (?:;|—) (?:<CONTRAST> )?| (?:[,:] )?(?:and )?<CONTRAST>(?: ,)? (?=<CLAUSE>)| : (?=<CLAUSE>)", _FRAGMENTS
)
_WEAK = compile_pattern(
    r" (?:, )?(?:and|so|because|since|as|then|or|for|where|plus) (?=<CLAUSE>)| , (?=<CLAUSE>|<OFTHEM>)| (?:, )?(?:with|and|but|though) (?=NO )",
    _FRAGMENTS,
)
_FRONTED = compile_pattern(
    r"(?:<CONTRAST>|UNLIKE|HARDLY W|to (?:W|SEE|SHOW|SAY|IMPERATIVE|be)|since|because|as|given(?: that)?|W W) .*? , (?=<CLAUSE>)",
    _FRAGMENTS,
)
_LABEL = compile_pattern(
    r"(?:the |my |your )?(?:W )?(?:CLAIM|HYPOTHESIS|REPORT|SAY|OPTION|TRUE or FALSE|IF|ELSEWHERE)(?: NUM| W| A| OPTION)?",
    _FRAGMENTS,
)
_EXCEPTION = re.compile(r" but (?:the|a|an|ONE|NUM) ")
_BARE_DENIAL = compile_pattern(r"(?:HERE |, )*(?:NO|NOTHING|NOBODY|NONE|ALL)(?: <NP>)?", _FRAGMENTS)
_FINITE = compile_pattern(r"(?:^| )(?:<FINITE>|SEE|SAY|REPORT|W)(?: |$)", _FRAGMENTS)


@lru_cache(REMEMBERED)
def groups(text: str) -> tuple[Range, ...]:
    """Ranges of the groups of a sentence."""
    return tuple(_split(text, (0, len(text)), _STRONG, fronted=True))


@lru_cache(REMEMBERED)
def clauses(text: str, group: Range) -> tuple[Range, ...]:
    """Ranges of the clauses of a group."""
    return tuple(_split(text, group, _WEAK, fronted=False))


def _split(text: str, within: Range, boundary: re.Pattern[str], *, fronted: bool) -> Iterator[Range]:
    start, last = within
    at = start
    while True:
        if fronted and at == start and (opening := _FRONTED.match(text, at, last)):
            yield start, opening.end() - 3
            start = at = opening.end()
            continue
        match = boundary.search(text, at, last)
        if match is None:
            break
        if boundary is _STRONG and _LABEL.fullmatch(text, start, match.start()):
            at = match.end()  # "claim: there is a star"
            continue
        if _EXCEPTION.match(text, match.start()) and _BARE_DENIAL.fullmatch(text, start, match.start()):
            at = match.end()  # "no star but the red one is visible"
            continue
        if match.start() > start and (boundary is _STRONG or _FINITE.search(text, start, match.start())):
            yield start, match.start()
            start = match.end()
        at = match.end()
    if start < last:
        yield start, last
