"""A sentence as a string of word classes, on which the patterns of this package are matched.

Each unit of the string stands for one or more words, and units are separated by one space:

    N, Np        a noun of the lexicon with the attributes before it ("red circle"), singular and plural
    Na, Nap      the same with at least one attribute
    A            attributes without a noun ("red", "red and blue"); B an attribute that may also be a noun ("orange")
    ONE, NUM     "one" and other numbers
    Q            a quotation
    W            any other content word
    BE, NOT, ... a class of `vocabulary`
    the, and, , ... all other function words and marks, as they are

"There are two red circles and no star." is `there BE NUM Nap and NO N`.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache

from vlrm_ray.claims.lexicon import UNKNOWN, Entry, Lexicon
from vlrm_ray.claims.scope.vocabulary import CLASSES, LONGEST
from vlrm_ray.claims.tokens import Token

_MARK_KINDS = frozenset({"comma", "colon", "open_bracket", "close_bracket", "clause_break", "approximate", "end"})
_CONTENT_KINDS = frozenset({"word", "uncheckable", "vague", "activity", "relation_verb", "verb"})
_ANSWERS = frozenset({"yes", "no"})
_CLASS_MARKS = frozenset("~≈+<>≤≥×✓✔✅✗✘❌")
_LABEL_MARKS = frozenset(":=—|(")
_BEFORE_NUMBERS = frozenset({"only", "just", "exactly", "not"})
_JOINED = (
    (re.compile(r"\b[AB](?:(?: ,)?(?: and)? [AB])*(?= Np?\b)"), "A"),
    (re.compile(r"\b[AB] (Np?)\b"), "N"),
    (re.compile(r"\b[AB](?: (?:and|,|, and) [AB])+\b"), "A"),
    (re.compile(r"\b(?:(?:PREVIOUS|OTHER|PAST) )+IMAGE\b"), "ELSEWHERE"),
    (re.compile(r"\b(?:in|within|on|from|of|across|throughout)(?: (?:the|this|that|a|my|our|your|GIVEN|VISIBLE))* IMAGE\b"), "HERE"),
)  # fmt: skip
"""Patterns of units that become one unit."""
REMEMBERED = 16_384
"""Texts that a function of this package remembers its results of. Different sentences often have the same units."""


class SentenceText:
    """A sentence as a string of word classes.

    Args:
        pieces: the sentence, without the piece that ends it; see `tokens.split_pieces`.
        lexicon: nouns, attributes and function words.

    Attributes:
        pieces: as given.
        text: the units, separated by spaces.
    """

    def __init__(self, pieces: Sequence[Token], lexicon: Lexicon) -> None:
        self.pieces = pieces
        self._lower = [p.text.lower() for p in pieces]
        firsts: list[int] = []
        units: list[str] = []
        i = 0
        while i < len(pieces):
            unit, size = self._unit_at(i, lexicon)
            if unit:
                firsts.append(i)
                units.append(unit)
            i += size
        firsts.append(len(pieces))
        firsts[0] = 0
        self.text, self._starts, kept = _joined(" ".join(units))
        self._firsts = [firsts[i] for i in kept]

    def pieces_between(self, start: int, end: int) -> list[Token]:
        """Pieces of the units that begin within a range of `text`, with the words after them that are left out of it."""
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        return list(self.pieces[self._firsts[first] : self._firsts[last]])

    def fill(self, template: str, match: re.Match[str], offset: int = 0) -> list[Token]:
        """The pieces of a template, in which a word in braces stands for the words of a group.

        Args:
            template: words and names of groups.
            match: the match with the groups.
            offset: where the string that was matched begins in `text`.

        Returns:
            The pieces; none if one of the groups did not match.
        """
        pieces: list[Token] = []
        for name, word in reversed([slot.groups() for slot in _SLOT.finditer(template)]):
            if word:
                at = pieces[0].start if pieces else self.pieces[-1].end
                pieces = [literal(word, at), *pieces]
            elif match.groupdict().get(name) is None:
                return []
            else:
                first, last = match.span(name)
                pieces = self.pieces_between(offset + first, offset + last) + pieces
        return pieces

    def _unit_at(self, i: int, lexicon: Lexicon) -> tuple[str, int]:
        """The unit that begins at a piece, and the number of its pieces."""
        piece, lower = self.pieces[i], self._lower
        word = lower[i]
        if piece.entry is not UNKNOWN:
            return CLASSES[word] if word in _CLASS_MARKS else _unit_of(piece.text, piece.entry), 1
        if word == "can" and (lower[i + 1 : i + 2] == ["of"] or (i and lexicon.is_modifier(lower[i - 1]))):
            return "N", 1
        if len(word) == 1 and word != "s" and lower[i + 1 : i + 2] == [")"]:
            return "OPTION", 1
        longest = max(LONGEST.get(word, 1), lexicon.longest.get(word, 1))
        for size in range(min(longest, len(lower) - i), 0, -1):
            phrase = word if size == 1 else " ".join(lower[i : i + size])
            if phrase in CLASSES:
                return "" if phrase == "no" and self._is_answer(i) else CLASSES[phrase], size
            entry = lexicon.entries.get(phrase)
            if entry is not None and (
                size == 1 or entry.noun or entry.attribute or (entry.kind == "number" and word not in _BEFORE_NUMBERS)
            ):
                return _unit_of(phrase, entry), size
        return "W", 1

    def _is_answer(self, i: int) -> bool:
        """Whether a "no" stands on its own, instead of before a noun or after a colon."""
        before, after = self._lower[i - 1] if i else "", self._lower[i + 1] if i + 1 < len(self._lower) else ""
        return (not after.isalpha() or after in _ANSWERS) and after != ":" and before not in _LABEL_MARKS


@lru_cache(REMEMBERED)
def _joined(text: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Join units as `_JOINED` says.

    Returns:
        The text of the joined units, where each of them starts in it, and the index of its first unit in the text that was
        given, with the number of all units at the end.
    """
    starts = _starts(text.split(" ") if text else [])
    kept = tuple(range(len(starts) + 1))
    for pattern, unit in _JOINED:
        matches = list(pattern.finditer(text))
        if not matches:
            continue
        units: list[str] = []
        firsts: list[int] = []
        at = 0
        for match in (*matches, None):
            start, end = match.span() if match else (len(text) + 1, 0)
            first, last = bisect_left(starts, at), bisect_left(starts, start)
            units += text[at : max(at, start - 1)].split(" ") if last > first else []
            firsts += kept[first:last]
            if match:
                units.append(unit + "a" + match.group(1)[1:] if pattern.groups else unit)
                firsts.append(kept[last])
                at = end + 1
        kept, text = (*firsts, kept[-1]), " ".join(units)
        starts = _starts(units)
    return text, tuple(starts), kept


def _starts(units: Sequence[str]) -> list[int]:
    """Offset of each unit in the text."""
    starts, at = [], 0
    for unit in units:
        starts.append(at)
        at += len(unit) + 1
    return starts


def _unit_of(text: str, entry: Entry) -> str:
    kind = entry.kind
    if kind == "quote":
        return "Q"
    if kind in ("be", "genitive"):
        return "'s" if kind == "genitive" and text == "'s" else CLASSES.get(text, text)
    if kind == "number":
        return "NO" if entry.value == "0" else "ONE" if text.lower() == "one" else "NUM"
    if kind == "content":
        if entry.noun and entry.attribute and not entry.plural:
            return "B"
        return ("Np" if entry.plural else "N") if entry.noun else "A"
    if kind in ("open_bracket", "close_bracket"):
        return "(" if kind == "open_bracket" else ")"
    if kind in _MARK_KINDS:
        return text or "."
    return "W" if kind in _CONTENT_KINDS else text.lower().replace(" ", "_")


_LITERAL_MARKS = {",": Entry("comma"), ";": Entry("clause_break")}
_SLOT = re.compile(r"\{([a-z]+)\}|([^{}\s]+)")
_MACRO = re.compile(r"(?<!\?P)<([A-Z]+)(?::([a-z]+))?>")


def compile_pattern(source: str, fragments: Mapping[str, str]) -> re.Pattern[str]:
    """Compile a pattern of units. `<NAME>` stands for a fragment, `<NAME:group>` for one that is a named group.

    Args:
        source: a regular expression with such placeholders.
        fragments: regular expressions by name; they may contain placeholders too.
    """

    def expand(match: re.Match[str]) -> str:
        name, group = match.groups()
        inner = _MACRO.sub(expand, fragments[name])
        return f"(?P<{group}>{inner})" if group else f"(?:{inner})"

    return re.compile(_MACRO.sub(expand, source))


def literal(word: str, at: int) -> Token:
    """A piece for a rewritten sentence that is not in the response. `at` is the place in the response of its neighbor."""
    return Token(word, _LITERAL_MARKS.get(word, UNKNOWN), at, at)
