"""Phrases that the reader would misread, replaced by simpler phrases: items of lists, inexact numbers, and corrections.

In "squares (2) and triangles (1)" each number goes to its own noun: "2 squares and 1 triangles". "Two or three circles" becomes
"some circles", and "three, not four, circles" becomes "three circles".
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.scope.text import REMEMBERED, SentenceText, compile_pattern
from vlrm_ray.claims.scope.vocabulary import FRAGMENTS
from vlrm_ray.claims.tokens import Token

_SOME, _PERHAPS = "several", "up to"
_FRAGMENTS = FRAGMENTS | {
    "FIRST": r"(?:^|(?<=[,;:(—] )|(?<=and )|(?<=SHOW )|(?<=BE )|(?<=of ))",
    "LAST": r"(?= [,;)—|]| and | \(|$)",
    "IS": r"(?::|=|—|×|\|)",
    "K": r"(?:NUM|ONE|NO)",
    "COUNTED": r"(?:(?:the )?NUMBER of )?(?:the )?(?P<n>Na?p?|B|SHAPE)(?: (?:SEE|NUMBER|W|THEM))?",
}
_LISTS = (
    (r"(?<=N|p) \( (?:W|'s) \)", ""),  # circle(s)
    (r"^\| ", ""),
    (r" \|$", ""),
    (r"^NUM \| (?=<N> \|)", ""),
    (r"(?<!N \( )(?<!p \( )(?<!B \( )<FIRST>(?:\( )?(?:NUM|ONE) \) (?=[^ ])", ""),
    (r"^(?P<n><N>) \| (?P<c>A|B) \| (?P<k>NUM|ONE)$", "{k} {c} {n}"),
    (r"^(?P<n><N>) \| (?P<k>NUM|ONE) \| (?P<c>A|B)$", "{k} {n} , {c} {n}"),
    (r"^(?P<c>A|B) \| (?P<n><N>) \| (?P<k>NUM|ONE)$", "{k} {c} {n}"),
    (r"^(?P<a>(?:A|B) \| <N>(?: ,)? .*) \| (?:NUM|ONE)$", "{a}"),  # the number is that of all shapes of a color
    (r"(?<=the )(?P<n>Na?|B) \( (?:NUM|ONE) \)", "{n}"),  # the number of a step
    (r"<COUNTED> <IS> (?P<x>LEAST|OVER|UPTO|UNDER|ABOUT|AROUND) (?P<k>NUM|ONE|NO)<LAST>", "{x} {k} {n}"),
    (r"<COUNTED> <IS> (?P<k><K>)(?P<x> ORMORE)<LAST>", "{k} {x} {n}"),
    (r"<COUNTED> <IS> (?P<k>NUM|ONE)<LAST>", "{k} {n}"),
    (r"(?<!W )(?<!Q )<COUNTED> <IS> (?P<k>NO)<LAST>", "{k} {n}"),  # not "stop sign: 0"
    (r"<FIRST>(?P<n><N>) (?:<IS> )?(?:MISSING|NONE|NOT (?:VISIBLE|HERE|there)|ISNT (?:VISIBLE|HERE|there)|FALSE|CROSSED)<LAST>", "no {n}"),
    (r"<FIRST>(?:CROSSED) (?P<n><N>)<LAST>", "no {n}"),
    (r"^\( \) (?P<n>.+)", "up to {n}"),
    (r"^\( (?:×|CHECKED) \) (?P<n>.+)", "{n}"),
    (r"(?:NUM|ONE) \( or (?:NUM|ONE) \)", _SOME),
    (r"(?P<n>Na?p?|B) \( (?P<k>NUM|ONE) \)", "{k} {n}"),
    (r"(?P<n>Na?p?|B) \( (?:MISSING|NONE|NO|NOT (?:VISIBLE|HERE|there)|FALSE|CROSSED) \)", "no {n}"),
    (r"(?P<n>Na?p?|B) (?:\( )?× (?P<k>NUM|ONE|NO)(?: \))?", "{k} {n}"),
    (r"(?P<k>NUM|ONE|NO) × (?P<n><N>)", "{k} {n}"),
    (r"<FIRST>(?<!N , )(?<!p , )(?<!N and )(?<!p and )(?P<n><N>) <IS> (?P<c>A|B)<LAST>", "{c} {n}"),
    (r"(?P<n>(?:on|in|at|of|W|<BESIDE>) (?:the |a |an |its )?(?:Np?|B)) \( (?:A|B) \)", "{n}"),  # of the whole, or of its place
    (r"(?P<n>Np?|B) \( (?:which BE |it BE |they BE |BE )?(?P<c>A|B) \)", "{c} {n}"),
    (r"(?P<n>Na?p?|B) \( (?P<c>(?:(?:ONE|a|an|the) (?:A|B)(?: ONE)?(?: ,)?(?: and)? ?)+) \)", "{n} , {c} ,"),
    (r" \( [^()]* \)", ""),
)  # fmt: skip
_NUMBERS = (
    (r"(?P<a><DONT> (?:SEE|SHOW|W)) (?:LEAST|UPTO) (?:NUM|ONE)", f"{{a}} {_PERHAPS}"),
    (r"(?:NUM|ONE) (?P<n><N>) LEAST (?:NUM|ONE)", f"{_SOME} {{n}}"),
    (r"<ISNT> LEAST (?:NUM|ONE)", f"are {_PERHAPS}"),
    (r"<ISNT> UPTO (?P<low>NUM|ONE)", f"are {_SOME}"),
    (r"(?:EITHER )?(?:(?:<BESIDE>|from|LEAST|W) )?(?P<low>NUM|ONE|NO)(?: , (?:NUM|ONE))? (?:to|or|—) (?:NUM|ONE)", _SOME),
    (r"(?:<BESIDE>|from|W) (?P<low>NUM|ONE|NO) and (?:UPTO )?(?:NUM|ONE)(?= <NP>)", _SOME),
    (r"(?P<k>NUM|ONE) (?P<n><N>) ORSO", "about {k} {n}"),
    (r"(?:NUM|ONE) (?P<n><N>) (?:ORFEWER|UPTO(?! NUM| ONE))", f"{_PERHAPS} {{n}}"),
    (r"(?P<low>NUM|ONE|NO) (?P<n><N>) (?:ORMORE|LEAST(?! NUM| ONE))", f"{_SOME} {{n}}"),
    (r"(?P<low>ONE|NUM|NO) (?:ORMORE|or MORE)", _SOME),
    (r"(?:LEAST|OVER) (?P<low>NUM|ONE|NO)(?= <NP>)|LEAST (?P<lowest>NUM|ONE|NO)", _SOME),
    (r"(?:UPTO|UNDER) (?:NUM|ONE)(?= <NP>)|UPTO (?:NUM|ONE)", _PERHAPS),
    (r"(?:ONE|NUM) ORFEWER", _PERHAPS),
    (r"(?P<k>NUM|ONE) ORSO(?= <NP>)", "about {k}"),
    (r"(?:ABOUT|AROUND)(?: (?:a|an) W)? (?P<k>NUM|ONE)(?= <NP>)", "about {k}"),
    (r"(?:ABOUT|AROUND) (?:NUM|ONE)(?! <NP>)", _SOME),
)  # fmt: skip
_CORRECTIONS = (
    (r"(?: ,)? (?:and|but|,) NO (?:MORE|OTHER|FEWER)(?: (?:and|or) NO (?:MORE|OTHER|FEWER))?$", ""),
    (r" , (?:and |but )?NOT (?:(?:the|a|an) <NP>|NUM(?: <N>)?|ONE|<A>|<PLACE>|Q|<BESIDE> <NP>) ,", ""),
    (r" , (?:and |but )?NOT (?:NUM|ONE)(?: <N>)?$", ""),
    (r" , (?:and |but )?(?:NOT the <NP>|NO)$", ""),  # "two circles, not one"
    (r"^(?P<a>(?:it|this|that) BE (?:a|an) <N>) , (?:and )?NOT (?:a|an) <NP>$", "{a}"),
    (r" , (?:UNLIKE|INSTEAD) <NP>$", ""),
    (r" , (?P<o>ONLY) ", "; {o}"),
    (r"^(?P<a>the <N>) (?P<b>ISNT|BE NOT) (?P<x>.+) (?:;|,|—) it BE (?P<y>.+)$", "{a} {b} {x} ; {a} is {y}"),
)  # fmt: skip


def _whole_units(pattern: str) -> str:
    """A pattern that begins and ends with a unit; one that begins or ends with a space or an assertion does so already."""
    start = "" if pattern.startswith((" ", "^", "(?<", "<FIRST>")) else r"(?<![^ ])"
    end = "" if pattern.endswith((" ", "$", r"\|)", "[^ ])")) else r"(?![^ ])"
    return f"{start}(?:{pattern}){end}"


_TABLES = tuple(
    (re.compile(needed), tuple((compile_pattern(_whole_units(p), _FRAGMENTS), template) for p, template in table))
    for needed, table in (
        (r"[(|:=—]|×|CHECKED|CROSSED|MISSING|NONE", _LISTS),
        (r"NUM|ONE|NO\b", _NUMBERS),
        (r"NOT|NO\b|ISNT|ONLY|UNLIKE|INSTEAD", _CORRECTIONS),
    )
)
"""Substitutions, by a pattern of the units of which one is in each of their matches."""


def substituted(text: SentenceText, lexicon: Lexicon) -> SentenceText:
    """A sentence after all substitutions."""
    for number, (_, table) in enumerate(_TABLES):
        at = _first_match(text.text, number)
        while at < len(table):
            pattern, template = table[at]
            text = SentenceText(_replaced(text, list(pattern.finditer(text.text)), template), lexicon)
            at = _first_match(text.text, number, at + 1)
    return text


@lru_cache(REMEMBERED)
def _first_match(text: str, number: int, first: int = 0) -> int:
    """Index of the first pattern of a table, from an index on, that a text matches; the table's length if there is none."""
    needed, table = _TABLES[number]
    if first == 0 and not needed.search(text):
        return len(table)
    return next((i for i in range(first, len(table)) if table[i][0].search(text)), len(table))


def _replaced(text: SentenceText, matches: Sequence[re.Match[str]], template: str) -> list[Token]:
    """The pieces of a sentence, with each match replaced. What replaces it spans the same characters."""
    pieces: list[Token] = []
    at = 0
    for match in matches:
        start, end = match.span()
        replaced = text.pieces_between(start, end)
        pieces += text.pieces_between(at, start)
        if replaced:
            start, end = replaced[0].start, replaced[-1].end
            filled = text.fill(_chosen(template, match, text), match)
            pieces += [piece._replace(start=start, end=end) for piece in filled]
        at = match.end()
    return pieces + text.pieces_between(at, len(text.text) + 1)


def _chosen(template: str, match: re.Match[str], text: SentenceText) -> str:
    """The template; a number that may be zero does not tell that there is anything."""
    name = next((name for name in ("low", "lowest") if match.groupdict().get(name)), None)
    if name is None:
        return template
    low = text.pieces_between(*match.span(name))[-1].text.lower()
    return template.replace(_SOME, _PERHAPS) if low in ("0", "zero", "no") else template
