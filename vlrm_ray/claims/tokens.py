"""Text to sentences of tokens: words looked up in the lexicon, quotations, numbers and punctuation.

Markdown marks, the headings of tables, HTML tags, entities, URLs, escape sequences, struck-out text and chat-template tokens are skipped: they are
layout, taken back, or an attempt at prompt injection, and never part of a claim.

Pieces are tokens that have not been looked up: each word is still on its own. `split_pieces` finds them, `look_up` joins
words that the lexicon knows as one phrase.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from vlrm_ray.claims.lexicon import UNKNOWN, Entry, Lexicon


class Token(NamedTuple):
    """A word, phrase, quotation, number or mark.

    Attributes:
        text: as written, without quotation marks.
        entry: its meaning in the lexicon.
        start: first character in the response.
        end: character after the last one.
    """

    text: str
    entry: Entry
    start: int
    end: int


_PIECE = re.compile(
    r"""
    (?=[^ ])(?:
    (?P<plain>[^\W\d_]+(?=[ ,]))  # most words; all other alternatives are slower
  | (?P<stop>[.,](?!\w))
  | (?P<skip>\x1b\[[0-9;]{0,20}[A-Za-z]|<script\b[^<]{0,2000}</script>|<style\b[^<]{0,2000}</style>|<\|[^|<>\n]{0,40}\|>|</?[A-Za-z!][^<>\n]{0,200}>|&\#?\w{1,8};|https?://\S{1,200}|~~[^~\n]{1,200}~~|(?<![^\n])\|[^\n]{1,300}\|[ \t]*(?=\n[ \t]*\|(?=[^\n]*-)[ \t:|-]*(?:\n|$)))
  | (?P<quote>"[^"\n]{1,200}"|“[^”\n]{1,200}”|«[^»\n]{1,200}»|‘[^’\n]{1,200}’(?!\w)|(?<!\w)'[^'\n]{1,100}(?:'\w[^'\n]{0,100}){0,3}'(?!\w)|`[^`\n]{1,200}`)
  | (?P<range>\d{1,4}(?:\ ?–\ ?|[-−])\d{1,4}(?![^\W_]))
  | (?P<number>\d{1,9}(?:[.,:/]\d{1,9})*(?![^\W_]))
  | (?P<abbreviation>(?:i\.e\.|e\.g\.|viz\.|etc\.)(?![^\W_]))
  | (?P<word>[^\W_]+(?:['’-][^\W_]+)*)
  | (?P<line>\n[ \t\r\n]*(?:[-*+•–]\s|\d{1,3}[.)]\s)?)
  | (?P<dash>(?<=\s)-{1,2}>?(?=\s)|->|[–—→])
  | (?P<mark>[.…!?;:,()\[\]&=×|~≈%+<>≤≥✓✔✅✗✘❌])
    )
    """,
    re.VERBOSE,
)
_MARKS: dict[str, Entry] = {
    ".": Entry("end"), "…": Entry("end"), "!": Entry("end"), "?": Entry("end", "?"), ";": Entry("clause_break"),
    ":": Entry("colon"), "=": Entry("colon"), "&": Entry("and"), "%": Entry("skip"),
    "(": Entry("open_bracket"), "[": Entry("open_bracket"), ")": Entry("close_bracket"), "]": Entry("close_bracket"),
    **dict.fromkeys(",×|", Entry("comma")),
    **dict.fromkeys("~≈", Entry("approximate")),
    **dict.fromkeys("+<>≤≥✓✔✅✗✘❌", Entry("skip")),
}  # fmt: skip
_BEFORE_FIRST_WORDS = frozenset({"comma", "colon", "open_bracket", "quote", "end", "clause_break"})
"""Marks after which a capitalized word need not be a name."""
_CONTRACTED_WITH_BE = frozenset({"i", "it", "he", "she", "there", "that", "what", "who", "here", "they", "we", "you"})
"""Words after which "'s" is a form of "be"; after others it is the genitive."""
_ABBREVIATIONS = {"i.e.": Entry("comma"), "viz.": Entry("comma"), "e.g.": Entry("skip"), "etc.": Entry("skip")}
_LIST_MARKER = re.compile(r"\s*(?:[-*+•–]\s|\d{1,3}[.)]\s)")
_QUOTE, _DASH, _RANGE, _LINE_END = Entry("quote"), Entry("comma"), Entry("number", "-1"), Entry("end", "line")
_ITEM_FOLLOWS = Entry("end", "item")
_RANGE_FROM_ZERO = Entry("determiner", "open")


def sentences(text: str, lexicon: Lexicon) -> Iterator[list[Token]]:
    """Split a text into sentences. Each ends with a token of kind `end`; a line break ends a sentence too."""
    for pieces in split_pieces(text):
        yield look_up(pieces, lexicon)


def split_pieces(text: str) -> Iterator[list[Token]]:
    """Split a text into sentences of pieces: each word is still on its own and marked `UNKNOWN`.

    The last piece of a sentence has the value "?" after a question, "item" if a list item follows, and "line" at the end
    of any other line.
    """
    sentence: list[Token] = []
    for piece in _pieces(text):
        sentence.append(piece)
        if piece.entry.kind == "end":
            if len(sentence) > 1:
                yield sentence
            sentence = []
    if sentence:
        yield [*sentence, Token("", _LINE_END, len(text), len(text))]


def _pieces(text: str) -> list[Token]:
    marker = _LIST_MARKER.match(text)
    pieces: list[Token] = []
    for match in _PIECE.finditer(text, marker.end() if marker else 0):
        group = match.lastgroup
        if group == "skip":
            continue
        piece, (start, end) = match.group(), match.span()
        if group == "plain":
            pieces.append(Token(piece, UNKNOWN, start, end))
        elif group == "stop":
            pieces.append(Token(piece, _MARKS[piece], start, end))
        elif group == "word":
            if "'" in piece or "’" in piece:
                pieces += _split_contraction(piece, start, end)
            else:
                pieces.append(Token(piece, UNKNOWN, start, end))
        elif group == "mark":
            pieces.append(Token(piece, _MARKS[piece], start, end))
        elif group == "number":
            exact = piece.isdigit() and len(piece) < 5
            pieces.append(Token(piece, Entry("number", str(int(piece)) if exact else "-1"), start, end))
        elif group == "quote":
            pieces.append(Token(piece[1:-1], _QUOTE, start, end))
        elif group == "abbreviation":  # no end of a sentence
            pieces.append(Token(piece, _ABBREVIATIONS[piece], start, end))
        elif group == "line":
            pieces.append(Token("", _ITEM_FOLLOWS if len(piece.strip()) else _LINE_END, start, start))
        elif group == "dash":
            pieces.append(Token("—", _DASH, start, end))
        elif group == "range":
            pieces.append(Token(piece, _RANGE_FROM_ZERO if piece.startswith("0") else _RANGE, start, end))
    return pieces


def _split_contraction(word: str, start: int, end: int) -> Iterator[Token]:
    """One token for a word, two for a contraction or genitive ("it's", "dog's")."""
    plain = word.replace("’", "'")
    base, apostrophe, tail = plain.rpartition("'")
    if apostrophe and tail in ("s", "re", "m", "ve", "ll", "d", "S"):
        cut = start + len(base)
        yield Token(base, UNKNOWN, start, cut)
        contracted = base.lower() in _CONTRACTED_WITH_BE
        yield Token(plain[len(base) :], Entry("be") if contracted else Entry("genitive"), cut, end)
    else:
        yield Token(plain, UNKNOWN, start, end)


def look_up(pieces: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """Look words up in the lexicon. Of several phrases that start with the same word, the longest wins."""
    words = tuple([p.text.lower() if p.entry is UNKNOWN else "" for p in pieces])
    has_names = is_in_lower_case(p.text for p in pieces if p.entry is UNKNOWN)
    tokens: list[Token] = []
    for i, size, entry in lexicon.phrases(words):
        piece = pieces[i]
        follows_article = bool(tokens) and tokens[-1].entry.kind in ("determiner", "number")
        if has_names and size == 1 and entry.noun and i and not follows_article and _may_be_name(pieces, i):
            entry = UNKNOWN
        if size > 1:
            text = " ".join([p.text for p in pieces[i : i + size]])
            tokens.append(Token(text, entry, piece.start, pieces[i + size - 1].end))
        else:
            tokens.append(piece if entry is UNKNOWN else Token(piece.text, entry, piece.start, piece.end))
    return tokens


def is_capitalized(word: str) -> bool:
    """Whether a word is written like a name."""
    return len(word) > 2 and word[0].isupper() and word[1:].islower()


def is_in_lower_case(words: Iterable[str]) -> bool:
    """Whether several words of a sentence are in lower case, so that its capitalized ones are names."""
    lower = (None for word in words if len(word) > 2 and word[0].islower())
    return len(list(islice(lower, 2))) == 2


def _may_be_name(pieces: Sequence[Token], i: int) -> bool:
    """Whether a word is written like a name inside a sentence: "the brand is Apple"."""
    is_first = pieces[i - 1].entry.kind in _BEFORE_FIRST_WORDS
    return pieces[i].entry is UNKNOWN and is_capitalized(pieces[i].text) and not is_first
