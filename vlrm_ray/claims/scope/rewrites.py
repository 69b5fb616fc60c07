"""Clauses that the reader would misread, rewritten as simpler clauses of the same meaning.

"Neither the circle nor the square is red" becomes "the circle is not red" and "the square is not red". A clause that cannot
be said more simply has no rewrite; `operators` decides whether it is left open.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from vlrm_ray.claims.scope.text import REMEMBERED, compile_pattern
from vlrm_ray.claims.scope.vocabulary import FRAGMENTS


class Rewrite(NamedTuple):
    """A pattern of whole clauses and what they assert.

    Attributes:
        pattern: the pattern.
        clauses: clauses in place of it; a word in braces stands for the words of that group. After "~", the clause does not
            assert that what it denies something of exists.
        same: groups whose nouns must be the same.
    """

    pattern: re.Pattern[str]
    clauses: tuple[str, ...]
    same: tuple[str, ...] = ()


_NEITHER_NOR = (
    (r"NEITHER the (?P<a><N>|W) NOR (?:the )?(?P<b><N>|W) BE (?!VISIBLE)(?P<rest>.+)", "the {a} is not {rest}|the {b} is not {rest}"),
    (r"NEITHER of (?P<a>(?:the|these|those) <NP>) BE (?P<rest>.+)", "{a} are not {rest}"),
    (r"NEITHER <N:a> BE (?P<rest>.+)", "the {a} is not {rest}"),
    (r"<NP:a> BE NEITHER <A:b> NOR <A:c><HERE>", "{a} is not {b}|{a} is not {c}"),
    (r"<NP:a> BE NEITHER <A:b> NOR <A:c>(?: ,)? but <A:d>", "{a} is not {b}|{a} is not {c}|{a} is {d}"),
    (r"<NP:a> <ISNT> <A:c>(?: ,)? (?:and )?(?:NEITHER|NOR) (?:BE )?<NP:b>", "{a} is not {c}|{b} is not {c}"),
)  # fmt: skip
_NO_WITH_PREDICATE = (
    (r"(?:NONE|<NO>) of (?:the|these|those) SHAPE BE (?:a|an) <N:n><HERE>", "there is no {n}"),
    (r"(?:NONE|<NO>) of (?:the|these|those) (?P<a>Np) BE <A:c><HERE>", "the {a} are not {c}"),
    (r"(?:NONE|NO|NO ONE|NEITHER) THEM BE <A:c><HERE>", "they are not {c}"),
    (r"<NO> (?P<a>Np?) BE <A:c><HERE>", "~ the {a} is not {c}"),
    (r"<NO> <N:a> BE (?P<rest>(?:to the |on the )?(?:<BESIDE>|left|right) .+)", "~ the {a} is not {rest}"),
    (r"there (?:BE NO|<ISNT> (?:a|an|any)) <N:a> (?P<rest>(?:to the )?<BESIDE> the <NP>)", "~ the {a} is not {rest}"),
    (r"there BE NO (?P<a>Np?) (?:that|which|who) BE <A:c><HERE>", "~ the {a} is not {c}"),
)  # fmt: skip
_NOT_ONLY = (
    (r"there (?:ISNT|BE NOT) ONLY (?:ONE|NUM) <N:n><HERE>", "there are several {n}"),
    (r"NOT ONLY (?P<v>BE) there <NPS:a>(?: ,)? (?:but )?there (?P<w>BE) <NPS:b><HERE>", "there {v} {a}|there {w} {b}"),
    (r"NOT ONLY (?P<v>BE) <NP:a> <A:c>(?: ,)? (?:but )?(?:so BE <NP:b>|<NP:d> BE<HERE>)", "{a} is {c}|{b} is {c}|{d} is {c}"),
    (r"NOT ONLY BE <NP:a> <A:c>", "{a} is {c}"),
    (r"NOT ONLY <NP:a>(?: ,)? but <NP:b> BE (?P<rest>.+)", "{a} is {rest}|{b} is {rest}"),
    (r"NOT ONLY <NP:a> BE (?P<rest>.+)", "{a} is {rest}"),
    (r"there ISNT ONLY (?!ONE|NUM)<NPS:a>(?: ,)? but <NPS:b><HERE>", "there is {a}|there is {b}"),
    (r"there ISNT ONLY (?!ONE|NUM)<NPS:a>", "there is {a}"),
    (r"(?P<pre><EXISTS>) NOT ONLY (?!ONE|NUM)<NPS:a>(?: ,)? but <NPS:b><HERE>", "{pre} {a}|{pre} {b}"),
    (r"(?P<pre><EXISTS>) NOT ONLY (?!ONE|NUM)<NPS:a>", "{pre} {a}"),
    (r"(?:it|this|that) <ISNT> ONLY (?P<a>(?:a|an) <N>)", "there is {a}"),
)  # fmt: skip
_EXCEPTIONS = (
    (r"<EXISTS> NOTHING(?: HERE)? (?:EXCEPT|but|than) <NPS:a><HERE>", "there is {a}"),
    (r"EXCEPT <NPS:a> , the IMAGE BE (?:A|W)", "there is {a}"),
    (r"(?:NOTHING|NO SHAPE|NONE of the SHAPE) (?:HERE )?(?:EXCEPT|but) <NP:a> BE <A:c>", "{a} is {c}"),
    (r"EXCEPT <NP:a> , (?:NOTHING|NO (?:OTHER )?SHAPE) BE <A:c>", "{a} is {c}"),
    (r"NOTHING BE <A:c>(?: ,)? (?:EXCEPT|but) <NP:a>", "{a} is {c}"),
)  # fmt: skip
_ONE_EXCEPTION = (
    (r"<EXISTS> NO (?:OTHER )?(?P<n>Np?) (?:HERE )?(?:EXCEPT|than|but) the <A:c> ONE<HERE>", ()),
    (r"NO (?:OTHER )?(?P<n>Np?) BE <PHRASE> EXCEPT the <A:c> ONE", ()),
    (r"NO (?:OTHER )?(?P<n>Np?) (?:EXCEPT|than|but) the <A:c> ONE (?:BE|CAN be) <PHRASE>", ()),
    (r"<EXISTS> NO (?:OTHER )?(?P<n>Np?) (?:HERE )?(?:EXCEPT|than|but) the (?P<m>Nap?)<HERE>", ("n", "m")),
    (r"EXCEPT the (?P<m>Nap?) , <EXISTS> NO (?:OTHER )?(?P<n>Np?)<HERE>", ("n", "m")),
    (r"<EXISTS> a (?P<m>Na) (?:, )?(?:and|but) NO OTHER (?P<n>Np?)<HERE>", ("n", "m")),
)  # fmt: skip
"""The noun `n` has exactly one object: `m`, or the one of color `c`."""
_CONTRASTS = (
    (r"NOT (?:the|a) <NP> but <NP:b> BE (?P<rest>.+)", "{b} is {rest}"),
    (r"NOT (?:NUM|ONE) but (?P<k>NUM|ONE) (?P<rest>.+)", "{k} {rest}"),
    (r"(?:it|that) <ISNT> (?:a|an) <N> (?:that|which) PERSON SEE(?: ,)? but (?P<b>(?:a|an) <N>)", "there is {b}"),
    (r"(?:it|that) BE (?P<a>(?:the|a|an) <NP>) (?:that|which|who) BE (?P<rest>(?:(?!NOT ).)+)", "{a} is {rest}"),
    (r"(?:it|that) BE (?P<a>(?:the|a|an) <NP>) (?:that|which) PERSON (?:CAN )?SEE", "there is {a}"),
    (r"(?P<a>.+) (?:that|which|who) BE HARDLY <A>", "{a}"),
    (r"the <A:c> ONE BE (?:the|a|an) <N:n><HERE>", "the {n} is {c}"),
)  # fmt: skip
_MISSING = (
    (r"PERSON WONT SEE (?:a |an |any )?<N:n><HERE>", "there is no {n}"),
    (r"(?:(?:<EXISTS>|it BE) )?NOSIGN (?:a |an |any )?<N:n>(?: (?:BE|CAN be) (?:VISIBLE|SEE))?<HERE>", "there is no {n}"),
    (r"(?:a|an|any|NO OTHER|ALL) <N:n> (?:BE )?(?:MISSING|<ISNT> (?:VISIBLE|there)|ISNT|BE NOWHERE|NOWHERE|BE NOT VISIBLE)<HERE>", "there is no {n}"),
    (r"(?P<n>Nap?|Np) BE MISSING<HERE>", "there is no {n}"),
    (r"(?:a|an|any) <N:n> CANNOT be (?:VISIBLE|SEE)<HERE>", "there is no {n}"),
    (r"MISSING (?:HERE )?BE (?:any|a|an|ALL) <N:n><HERE>", "there is no {n}"),
    (r"(?:the |this )?(?:IMAGE|it) <ISNT> WITHOUT (?:a |an |any )?<N:n><HERE>", "there is a {n}"),
    (r"(?:<EXISTS> )?NOBODY(?: (?:BE|CAN be) (?:VISIBLE|SEE|there))?<HERE>", "there are no people"),
    (r"NOBODY BE W (?:in|on|at|<BESIDE>) (?P<n>the <N>)", "{n} is here"),
    (r"there <ISNT> (?:a|an|any) <N:n><HERE> PAST<HERE>", "there is no {n}"),
    (r"there BE HARDLY (?:a|an|any) <N:n><HERE>", "there is no {n}"),
)  # fmt: skip
_NUMBERS = (
    (r"(?:the )?NUMBER of (?P<n>Na?p)<HERE> (?:BE|=|:) (?P<k>NUM|ONE|NO)", "{k} {n}"),
    (r"there BE NO (?P<m>MORE|FEWER) <N:a> than <N:b>(?: and NO (?:MORE|FEWER))?<HERE>", "there are not {m} {a} than {b}"),
)  # fmt: skip


def _rewrites() -> list[Rewrite]:
    table = (*_NEITHER_NOR, *_NO_WITH_PREDICATE, *_NOT_ONLY, *_EXCEPTIONS, *_CONTRASTS, *_MISSING, *_NUMBERS)
    one = [
        Rewrite(
            compile_pattern(pattern, FRAGMENTS), ("there is exactly one {n}", "the {n} is {c}", "the {m} is here"), same
        )
        for pattern, same in _ONE_EXCEPTION
    ]
    return [*one, *(Rewrite(compile_pattern(pattern, FRAGMENTS), tuple(to.split("|"))) for pattern, to in table)]


_REWRITES = tuple(_rewrites())


@lru_cache(REMEMBERED)
def rewrite_of(clause: str) -> tuple[Rewrite, re.Match[str]] | None:
    """The first rewrite that matches a clause, with its match; None if there is none."""
    for rewrite in _REWRITES:
        if match := rewrite.pattern.fullmatch(clause):
            return rewrite, match
    return None
