"""Words that keep a clause from asserting what it mentions, and the negations that the reader understands.

`leaves_open` decides it for a clause without a rewrite. It leaves open more rather than less: a claim that is left open is
merely missing, but a claim that the response did not make may become a wrong label.
"""

import re
from functools import lru_cache

from vlrm_ray.claims.scope.text import REMEMBERED, compile_pattern
from vlrm_ray.claims.scope.vocabulary import FRAGMENTS

_FRAGMENTS = FRAGMENTS | {
    "SAYS": r"(?:REPORT|SAY|SAYING(?! Q)|AGREE|DENY|DOUBT|FORGET|SAIDTO|DENIED|CLAIM|HYPOTHESIS)",
    "DEFINITE": r"(?:<THE> (?:Na?p?|B|SCENE)(?: 's N)?|it|they|he|she)",
    "WHOLE": r"(?:(?:the|this|that|my|our|your|a) (?:IMAGE|SCENE)|IMAGE|SCENE|it|PERSON)",
    "DENIED": r"(?:NO|NEITHER|NONE|NOT|ISNT|DONOT|CANNOT|WITHOUT|LACK)",
    "AT": r"(?:to |on |in |at |of |near |the |its |W )*(?:REGION|<BESIDE>)",
}


def _containing(units: str) -> re.Pattern[str]:
    """A pattern of clauses that contain one of some units."""
    return compile_pattern(rf"(?:^|.* )(?:{units})(?= |$)", _FRAGMENTS)


_CARRYING = (
    r"IF|IFNOT|WILL(?! SEE)|WONT|<SAYS>|(?:they|SOMEBODY|as) READ|READ (?:that|there|(?:a|an|the) <N> BE)|OPTION|ELSEWHERE|"
    r"ACCOUNT (?:'s |of |that |BE |READ|MAY|SEEM|SHOW|SAY|W )|"
    # "Tom says he sees two", "answer 1 says one circle", "model A counts three", "that's two"
    r"W(?: NUM| A| a| ONE| OPTION)? READ (?:NUM|ONE|NO|a|an|the|he|she|they|PERSON|<N>)|(?:W|N|A|B|NUM|ONE|he|she|they|ALL|OPTION|W a) SEES|that BE (?:NUM|ONE)|"
    r"(?:W|BE|SEE|SHOW|A|NUM|IMAGE|it|HERE) that (?:there|it|the|a|an|NO|they|ALL|NUM|PERSON)"
)
_CARRIES = _containing(_CARRYING)
_OPEN = _containing(
    rf"{_CARRYING}|PAST|FALSE|TRUE|HABIT|TIMES|RESPECTIVELY|HARDLY|ASIDE|NOBODY|MOST|FORMER|CAN(?! (?:SEE|be (?:VISIBLE|SEE)|ONLY))|"
    r"WITHOUT (?:the|that|this|its)|ALL (?:.* )?(?:EXCEPT|but)|NO W of|(?:MORE|FEWER) <A> than|(?:,|and) (?:the |a |an )?<N> : A"
)
_GENERIC = compile_pattern(  # "a circle has no corners", "circles are round"
    r"(?:(?:a|an) <N> (?:SHOW|BE NO)|Na?p (?:SHOW|BE (?:A|W|B)$|BE (?:NO|NOT)))(?: .*|$)", _FRAGMENTS
)
_STARTS_OPEN = compile_pattern(
    # "imagine a star", "do not say that", "picture a star"
    r"(?:IMPERATIVE|SEE|SHOW|SAY|REPORT|IF) (?:a|an|the|that|for|ONE|NUM|any|IF|ALL|it|this|me|us|there|your|NOT|MANY|OTHER|to) .*|"
    r"IMPERATIVE W (?:a|an|the|IMPERATIVE|SEE|W|NUM|ONE) .*|to (?:W|SEE|SHOW|SAY|IMPERATIVE|be) .*|(?:after|before|upon|by|when) W .*|"
    r"IMAGE (?:a|an|the) .*|(?:DONOT|DO NOT|NOT) (?:SAY|SEE|REPORT|IMPERATIVE|SHOW|W) .*|"
    # "someone might see a star", "I searched for a star", "what you take for a star"
    r"(?:SOMEBODY SEE|(?:SOMEBODY|ONE) (?:(?:who|that|in|on|of) .* )?(?:MAY|IF|IFNOT|SAY|REPORT|PAST|W|DO|CAN (?!SEE)|READ))(?: .*|$)|"
    r"(?:what )?PERSON(?! (?:(?:CAN|DO|ONLY|WILL) )*(?:SEE|SHOW|CANNOT|DONOT|BE|ISNT|NOT)(?: |$)).*|(?:what|how|why) (?!PERSON|BE).*",
    _FRAGMENTS,
)
_MAY_BE_THERE = compile_pattern(
    # "a dog may be in the picture", "some birds can perhaps be seen", "two cups are on the table, probably"
    r"(?=(?:a|an|some|any|SOMEBODY|ONE|NUM|MANY|OTHER|Na?p) )<NPS><TAIL> "
    r"(?:(?:(?:BE|CAN) )*MAY(?: (?:MAY|CAN|be|BE))*(?: (?:VISIBLE|SEE|HERE|there|<PHRASE>))*<TAIL>|BE<TAIL>(?: ,)? MAY)",
    _FRAGMENTS,
)
_OPENS_BACK = compile_pattern(
    r"(?:or )?(?:IF|according|REPORT|or so|as) .*|REPORT|HYPOTHESIS|"
    r"(?:so |as |or so )?(?:PERSON|SOMEBODY|they|he|she|it BE|the CLAIM|the W) (?:(?:PAST|BE|SHOW|W) )*(?:SAY|REPORT|READ|SAYING)",
    _FRAGMENTS,
)
_NEGATION = _containing(
    "NO|NOSIGN|NOT|ISNT|DONOT|CANNOT|NEITHER|NOR|NONE|NOTHING|NOWHERE|WITHOUT|MISSING|LACK|EXCEPT|INSTEAD|UNLIKE"
)
_KNOWN_NEGATIONS = (
    # existence is denied
    r"<EXISTS> (?:NO|NEITHER) <NPS><TAIL>",
    r"there <ISNT> (?:a |an |any |ONE |NUM )*<NPS><TAIL>",
    r"there DONOT SEEM (?:to be )?(?:a |an |any )<NPS><TAIL>",
    r"(?:<EXISTS> )?NO <NPS>(?: ,)? but (?:ONLY )?(?:a|an|NUM|ONE|MANY) (?:W )?<N><TAIL>",
    r"PERSON <DONT> SEE (?!the |this |that |it|them)<NPS><TAIL>",
    r"(?:<WHOLE>|<THE> <NP>) DONOT (?:SHOW|W) (?:a |an |any |NUM )?<NPS><TAIL>",
    r"(?:<WHOLE>|<THE> <NP>) (?:BE )?(?:LACK|WITHOUT|SHOW NO|MISSING) <NPS><TAIL>",
    r"(?:NO|NEITHER) (?:OTHER )?<NPS> (?:BE|CAN be) (?:VISIBLE|HERE|SEE|in HERE)<TAIL>",
    r"(?:<NO>|WITHOUT) <NPS><TAIL>",
    r"(?:a |an |the )?(?:IMAGE|<NP>) WITHOUT <NPS><TAIL>",
    r"(?:<EXISTS> )?<NPS><TAIL>(?: ,)? (?:(?:but|and|with|though|HERE) )?(?:<NO>|WITHOUT) <NPS><TAIL>",
    r"(?:.* )?READ (?:W|N|Q) NO <NP>(?: N| W)*",
    r"INSTEAD (?:a|an) <NP>(?: ,)? <EXISTS> (?:a|an) <NP><TAIL>",
    r"<EXISTS> <NP> INSTEAD <NP><TAIL>",
    # an attribute or a relation is denied of something definite
    r"<DEFINITE> <ISNT> <A>(?: or <A>)*<TAIL>",
    r"<DEFINITE> <ISNT> W",
    r"<DEFINITE> BE <A>(?: ,)? (?:(?:and )?NOT|INSTEAD) <A>(?: or <A>)*",
    r"<DEFINITE> <ISNT> <A>(?: or <A>)*(?: ,)? but <A>",
    r"<DEFINITE> <ISNT> <A>(?: ,)? it BE <A>",
    r"<DEFINITE> <ISNT> (?:to |in |on |at |<BESIDE> |W )(?:(?!NOT |NO )[^ ]+ ?){1,14}",
    r"<DEFINITE> BE (?:to |in |on |at |<BESIDE> )(?:(?!NOT |NO )[^ ]+ ?){1,8} , NOT (?:to |in |on |at |<BESIDE> )(?:(?!NOT |NO )[^ ]+ ?){1,8}",
    # numbers are compared
    r"there (?:<ISNT>|BE) (?:MORE|FEWER|as MANY|as_many) <NP> (?:than|as) <NP><TAIL>",
)
_KNOWN = tuple(compile_pattern(source, _FRAGMENTS) for source in _KNOWN_NEGATIONS)
_DENIED_TEXT = compile_pattern(
    r"<DEFINITE> DONOT (?:READ|SAY|SHOW) (?:the )?(?:W )?(?:Q|W|N|A|B)(?: (?:W|N))?<HERE>", _FRAGMENTS
)
_CHOICE = _containing("or|EITHER")
_UNDENIABLE = compile_pattern(
    r"(?:^|.* )(?:ALL|ONLY|or|and|MOST|MANY|EITHER|OTHER|LEAST|UPTO|ABOUT|RESPECTIVELY)(?: .*|$)|"
    r"(?!there ).*(?:p|they|these|those) (?:BE|ISNT) .*",
    _FRAGMENTS,
)
_QUANTITY = compile_pattern(r"(?:^| )(?:ONE|NUM|any|<DENIED>)(?: |$)", _FRAGMENTS)
_RESTRICTION = compile_pattern(
    # "two other circles", "one of the circles", "two circles are red"
    r"(?:^| )(?:OTHER|whose|(?:NUM|ONE) (?:<N> )?(?:MORE|FEWER)|(?:NUM|ONE) (?:(?:W )?of|in) (?:the|these|those|them|which|SHAPE|NUM|ONE)|"
    r"(?:NUM|ONE) (?:THEM|BE|ISNT|<N> (?:BE|ISNT) <A>|<N> (?:that|which|who))|"
    # "the color of two stars", "each row holds one star", "so are the square and one circle", "two stars match and one does not", "circles: one on the left"
    r"(?:IMPERATIVE|SHAPE) of (?:NUM|ONE)|ALL (?:N|Na|B|A|SHAPE|REGION|W) (?:.* )?(?:NUM|ONE)|so (?:BE|DO) .*|(?:NUM|ONE) <N> .*and (?:ONE|NUM|(?:the )?OTHER)(?: THEM)? (?:DO|DONOT|BE|ISNT|NOT)|"
    r"<N> (?::|=|—) (?:ONLY )?(?:NUM|ONE) <AT>|"
    # "two circles on the left", "no circle next to the square", "no circle in the square"
    r"(?:(?:NUM|ONE|NO|NEITHER|any) (?:[^ ]+ )?|<DENIED> .*)<N>(?: ,)? (?:BE |that |which |W |VISIBLE )*<AT>|"
    r"(?:NO|any|<DENIED> (?:a|an)) <N> (?:in|on|at|with|within) (?!(?:the |a )?(?:HERE|IMAGE|SCENE))(?:the |a |an |its )?(?:<N>|W|it)|"
    # "the circle on the left is not red"
    r"<N> (?:that|which|who|with|in|on|at|of) (?:.* )?<DENIED>)(?= |$)|"
    # "on the left there are two circles", "the other circle is not red"
    r"^<AT> .*|^(?:the|this|that) (?:REGION|ONLY|W) .*<DENIED>|"
    # "the square contains no circle"
    r"^(?!<WHOLE> )(?:<DET> )*(?:<N>|W) (?:SHOW NO|DONOT(?! (?:READ|SAY))|LACK|BE WITHOUT)",
    _FRAGMENTS,
)
_DENIED_PLACE = compile_pattern(r"<DEFINITE> <ISNT> <AT>(?= |$)", _FRAGMENTS)
_THERE = compile_pattern(r"(?P<lead>.*?)(?:^| )there (?:BE|ISNT|W|MAY|SEEM|DONOT)(?: .*|$)", _FRAGMENTS)
_THERE_LEAD = compile_pattern(
    r"(?:(?:,|:|;|and|but|so|then|yet|ONLY|NOT|<PHRASE>|PERSON (?:CAN )?SEE(?: that)?|W :|.* (?:,|and|but|:|;|—)|NUM|MAY|so W|W) ?)*",
    _FRAGMENTS,
)
_NONE = compile_pattern(
    r"there (?:BE|IF be) NONE<HERE>|there <ISNT>(?: ONE| any)?<HERE>|(?:PERSON|(?:the )?IMAGE|it) (?:itself |W |CAN )?(?:SEE|SHOW) NONE<HERE>|"
    r"PERSON <DONT> SEE (?:ONE|any)<HERE>|NONE(?: (?:BE|CAN be) (?:VISIBLE|SEE|there))?<HERE>(?: that PERSON CAN SEE)?|SEE NONE|"
    r"(?:there BE|PERSON SEE) NO W<HERE>|NOT HERE",
    _FRAGMENTS,
)
_ASKS = compile_pattern(
    r"(?:BE|ISNT|DO|DONOT|CAN|CANNOT|IF|IFNOT|PAST|SHOW|MAY|what|which|who|whose|where|when|why|how)(?: |$)", _FRAGMENTS
)


@lru_cache(REMEMBERED)
def leaves_open(clause: str) -> bool:
    """Whether a clause may mention something without asserting it."""
    if _DENIED_TEXT.fullmatch(clause):
        return False
    if any(pattern.fullmatch(clause) for pattern in (_STARTS_OPEN, _GENERIC, _MAY_BE_THERE)) or _OPEN.match(clause):
        return True
    if (there := _THERE.fullmatch(clause)) and not _THERE_LEAD.fullmatch(there["lead"]):
        return True
    if _NEGATION.match(clause):
        return not any(known.fullmatch(clause) for known in _KNOWN)
    return bool(_CHOICE.match(clause))


@lru_cache(REMEMBERED)
def denies_last_mention(clause: str) -> bool:
    """Whether a clause denies what was mentioned last: "there is none", "I don't see one"."""
    return bool(_NONE.fullmatch(clause))


@lru_cache(REMEMBERED)
def is_open(clause: str) -> bool:
    """Whether a clause contains a word, other than a negation, that leaves open what it mentions."""
    return bool(_OPEN.match(clause))


@lru_cache(REMEMBERED)
def is_deniable(clause: str) -> bool:
    """Whether the denial of a clause denies exactly what it claims: not of "all circles are red"."""
    return not _UNDENIABLE.fullmatch(clause)


@lru_cache(REMEMBERED)
def carries_on(clause: str) -> bool:
    """Whether a clause that is left open also leaves open the clauses that follow it in its group."""
    return bool(_CARRIES.match(clause) or _STARTS_OPEN.fullmatch(clause))


@lru_cache(REMEMBERED)
def opens_what_precedes(clause: str) -> bool:
    """Whether a clause that is left open also leaves open the clauses before it: "..., if I am not mistaken"."""
    return bool(_OPENS_BACK.fullmatch(clause))


@lru_cache(REMEMBERED)
def restricts(clause: str) -> bool:
    """Whether numbers and denials in a clause hold only for some objects of a name: "no circle on the left"."""
    if not _QUANTITY.search(clause) or _DENIED_PLACE.match(clause):
        return False
    return bool(_RESTRICTION.search(clause))


@lru_cache(REMEMBERED)
def asks(sentence: str) -> bool:
    """Whether a sentence begins like a question."""
    return bool(_ASKS.match(sentence))
