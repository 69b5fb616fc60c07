"""Divides a sentence into parts that assert, deny or only mention something; see the package for an overview."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.scope import operators, splitting
from vlrm_ray.claims.scope.rewrites import rewrite_of
from vlrm_ray.claims.scope.stance import stance_of
from vlrm_ray.claims.scope.substitutions import substituted
from vlrm_ray.claims.scope.text import SentenceText
from vlrm_ray.claims.tokens import Token

MAX_PIECES = 150
"""A longer sentence that needs an analysis is left open. The limit bounds the running time."""
_MAX_DEPTH = 3
_LONGEST_ABSENCE = 12
_ABSENCE_WORDS = frozenset({"none", "isn't", "aren't", "not", "don't", "can't", "cannot", "such"})
_LEAD = re.compile(
    r"(?:(?:,|:|and|but|or|so|because|since|as|although|though|while|whereas|yet|then|HERE|to_be|NUM \)|W :) )*"
)


class Mode(StrEnum):
    """What a part does with what it mentions. `ABSENT` denies what was mentioned before it: "there is none"."""

    ASSERTED = "asserted"
    DENIED = "denied"
    OPEN = "open"
    ABSENT = "absent"


@dataclass(frozen=True)
class Part:
    """A part of a sentence for the reader.

    Attributes:
        pieces: its pieces; some may be rewritten.
        mode: what it does with what it mentions.
        inexact: characters in which numbers and denials hold only for some objects of a name, such as those in one place.
        existence: it asserts that the objects exist of which it denies something.
        span: characters of the response that it stands for, if it is rewritten.
    """

    pieces: Sequence[Token]
    mode: Mode = Mode.ASSERTED
    inexact: tuple[tuple[int, int], ...] = ()
    existence: bool = True
    span: tuple[int, int] | None = None


def is_absence(words: Set[str], pieces: Sequence[Token], lexicon: Lexicon) -> bool:
    """Whether a sentence only denies what was mentioned before it: "I don't see one in this image".

    Args:
        words: words and marks of the sentence, in lower case.
        pieces: the sentence, without the piece that ends it.
        lexicon: nouns, attributes and function words.
    """
    if len(pieces) > _LONGEST_ABSENCE or _ABSENCE_WORDS.isdisjoint(words):
        return False
    text = SentenceText(pieces, lexicon).text
    return operators.denies_last_mention(text[_lead(text) :])


def analyze(pieces: Sequence[Token], lexicon: Lexicon, depth: int = 0) -> list[Part]:
    """Divide a sentence into parts.

    Args:
        pieces: the sentence, without the piece that ends it.
        lexicon: nouns, attributes and function words.
        depth: number of rewrites and statements that this sentence was taken from.
    """
    if not pieces:
        return []
    if len(pieces) > MAX_PIECES or depth > _MAX_DEPTH:
        return [Part(pieces, Mode.OPEN)]
    text = substituted(SentenceText(pieces, lexicon), lexicon)
    found = [_Analysis(text, lexicon, depth).of_group(group) for group in splitting.groups(text.text)]
    return _merged(text, [entry for group in found for entry in group])


_Ranged = tuple[splitting.Range, Part]
"""A part with its range in the text of the sentence. The pieces of a part that is asserted as it stands are not used."""


@dataclass(frozen=True)
class _Analysis:
    text: SentenceText
    lexicon: Lexicon
    depth: int

    def of_group(self, group: splitting.Range) -> list[_Ranged]:
        """The parts of a group of clauses."""
        start, end = group
        begin = start + _lead(self.text.text[start:end])
        if reading := stance_of(self.text.text[begin:end]):
            stance, (first, last) = reading
            statement = self._analyze(self.text.pieces_between(begin + first, begin + last))
            if stance == "affirmed":
                return [(group, replace(part, span=part.span or _span(part.pieces))) for part in statement]
            plain = len(statement) == 1 and statement[0].mode is Mode.ASSERTED and not statement[0].inexact
            mode = (
                Mode.DENIED
                if plain and operators.is_deniable(self.text.text[begin + first : begin + last])
                else Mode.OPEN
            )
            span = _span(self.text.pieces_between(start, end))
            return [(group, replace(part, mode=mode, span=span)) for part in statement]
        return self._of_clauses(splitting.clauses(self.text.text, group))

    def _of_clauses(self, clauses: Sequence[splitting.Range]) -> list[_Ranged]:
        result: list[_Ranged] = []
        carried = False
        for clause in clauses:
            start, end = clause
            words = self.text.text[start + _lead(self.text.text[start:end]) : end]
            if not carried and (parts := self._rewritten(clause)):
                result += [(clause, part) for part in parts]
                continue
            if operators.denies_last_mention(words):
                result.append((clause, Part((), Mode.ABSENT)))
                continue
            left_open = carried or operators.leaves_open(words)
            if left_open and operators.opens_what_precedes(words):
                result = [(at, replace(part, mode=Mode.OPEN)) for at, part in result]
            carried = carried or (left_open and operators.carries_on(words))
            mode = Mode.OPEN if left_open else Mode.ASSERTED
            restricted = not left_open and operators.restricts(words)
            inexact = (_span(self.text.pieces_between(start, end)),) if restricted else ()
            result.append((clause, Part((), mode, inexact)))
        return result

    def _rewritten(self, clause: splitting.Range) -> list[Part]:
        """The parts of a clause by the first rewrite that matches it; none if no rewrite does."""
        start, end = clause
        first = start + _lead(self.text.text[start:end])
        found = rewrite_of(self.text.text[first:end])
        if found is None:
            return []
        rewrite, match = found
        span, parts = _span(self.text.pieces_between(*clause)), []
        for template in rewrite.clauses:
            existence = not template.startswith("~")
            pieces = self.text.fill(template.removeprefix("~"), match, first)
            parts += [replace(p, span=span, existence=existence) for p in self._analyze(pieces) if pieces]
        return parts

    def _analyze(self, pieces: Sequence[Token]) -> list[Part]:
        return analyze(pieces, self.lexicon, self.depth + 1)


def _merged(text: SentenceText, parts: Sequence[_Ranged]) -> list[Part]:
    """The parts with their pieces. Neighbors that are left as they stand, in the same mode, become one part."""
    merged: list[_Ranged] = []
    for at, part in parts:
        if merged and part.span is None and merged[-1][1].span is None and merged[-1][1].mode is part.mode:
            (start, _), before = merged[-1]
            merged[-1] = (start, at[1]), replace(before, inexact=before.inexact + part.inexact)
        else:
            merged.append((at, part))
    if len(merged) == 1 and merged[0][1].span is None:
        return [replace(merged[0][1], pieces=text.pieces)]
    return [part if part.span else replace(part, pieces=text.pieces_between(*at)) for at, part in merged]


def _lead(clause: str) -> int:
    """Length of the conjunctions and adverbials at the start of a clause that do not change what it asserts."""
    match = _LEAD.match(clause)
    return match.end() if match and match.end() < len(clause) else 0


def _span(pieces: Sequence[Token]) -> tuple[int, int]:
    return min(p.start for p in pieces), max(p.end for p in pieces)
