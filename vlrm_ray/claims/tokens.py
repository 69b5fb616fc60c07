"""From text to tokens at their places: words looked up in the lexicon, quotations, punctuation.

Markdown marks, HTML tags, entities and chat-template tokens are stepped over: they are layout to
some and an attack to others, and in both cases no claim.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from vlrm_ray.claims.grammar import Kind
from vlrm_ray.claims.lexicon import UNKNOWN, Entry, Lexicon


class Token(NamedTuple):
    """A word or phrase as the lexicon knows it, at its place in the text."""

    text: str
    entry: Entry
    start: int
    end: int

    @property
    def kind(self) -> Kind:
        """Part of speech."""
        return self.entry.kind


_PIECE = re.compile(
    r"""
    (?P<skip>\x1b\[[0-9;]{0,20}[A-Za-z]|<script\b[^<]{0,2000}</script>|<style\b[^<]{0,2000}</style>|<\|[^|<>\n]{0,40}\|>|</?[A-Za-z!][^<>\n]{0,200}>|&\#?\w{1,8};|https?://\S{1,200})
  | (?P<quote>"[^"\n]{1,200}"|“[^”\n]{1,200}”|«[^»\n]{1,200}»|‘[^’\n]{1,200}’(?!\w)|(?<!\w)'[^'\n]{1,100}(?:'\w[^'\n]{0,100}){0,3}'(?!\w)|`[^`\n]{1,200}`)
  | (?P<number>\d{1,9}(?:[.,:/]\d{1,9})*(?![^\W_]))
  | (?P<word>[^\W_]+(?:['’-][^\W_]+)*)
  | (?P<line>\n[ \t]*(?:[-*+•–]\s|\d{1,3}[.)]\s)?)
  | (?P<mark>[.!?;:,()—&])
    """,
    re.VERBOSE,
)
_MARKS: dict[str, Entry] = {
    ".": Entry("end"), "!": Entry("end"), "?": Entry("end", "?"), ";": Entry("break"), "—": Entry("comma"),
    ":": Entry("colon"), ",": Entry("comma"), "(": Entry("open"), ")": Entry("close"), "&": Entry("and"),
}  # fmt: skip
_CONTRACTED = frozenset({"i", "it", "he", "she", "there", "that", "what", "who", "here", "they", "we", "you"})
_LIST_START = re.compile(r"\s*(?:[-*+•–]\s|\d{1,3}[.)]\s)")
QUOTE, LINE = Entry("quote"), Entry("end", "line")


def sentences(text: str, words: Lexicon) -> Iterator[list[Token]]:
    """Tokens sentence by sentence, the closing mark included; a line is a sentence of its own."""
    sentence: list[Token] = []
    for token in _phrases(_pieces(text), words):
        sentence.append(token)
        if token.entry.kind == "end":
            if len(sentence) > 1:
                yield sentence
            sentence = []
    if sentence:
        yield [*sentence, Token("", LINE, len(text), len(text))]


def _pieces(text: str) -> list[Token]:
    """Single words, not looked up yet, and all other tokens."""
    start = _LIST_START.match(text)
    pieces: list[Token] = []
    for match in _PIECE.finditer(text, start.end() if start else 0):
        group = match.lastgroup
        if group == "skip":
            continue
        found, (begin, end) = match.group(), match.span()
        if group == "word":
            if "'" in found or "’" in found:
                pieces += _split(found, begin, end)
            else:
                pieces.append(Token(found, UNKNOWN, begin, end))
        elif group == "mark":
            pieces.append(Token(found, _MARKS[found], begin, end))
        elif group == "number":
            exact = found.isdigit() and len(found) < 5
            pieces.append(Token(found, Entry("number", str(int(found)) if exact else "-1"), begin, end))
        elif group == "quote":
            pieces.append(Token(found[1:-1], QUOTE, begin, end))
        elif group == "line":
            pieces.append(Token("", LINE, begin, begin))
    return pieces


def _split(word: str, start: int, end: int) -> Iterator[Token]:
    """A word; "dog's" and "it's" come in two."""
    plain = word.replace("’", "'")
    base, mark, tail = plain.rpartition("'")
    if mark and tail in ("s", "re", "m", "ve", "ll", "d", "S"):
        cut = start + len(base)
        yield Token(base, UNKNOWN, start, cut)
        verb = base.lower() in _CONTRACTED
        yield Token(plain[len(base) :], Entry("be") if verb else Entry("genitive"), cut, end)
    else:
        yield Token(plain, UNKNOWN, start, end)


def _phrases(pieces: list[Token], words: Lexicon) -> Iterator[Token]:
    """Look words up, the longest phrase first."""
    entries, longest = words.entries, words.longest
    at, count = 0, len(pieces)
    lower = [p.text.lower() for p in pieces]
    while at < count:
        text, entry, start, end = pieces[at]
        word, size = lower[at], 1
        if entry is UNKNOWN and word in longest:
            for size in range(min(longest[word], count - at), 1, -1):
                found = entries.get(" ".join(lower[at : at + size]))
                if found is not None:
                    entry, end = found, pieces[at + size - 1].end
                    text = " ".join(p.text for p in pieces[at : at + size])
                    break
            else:
                entry, size = entries.get(word, UNKNOWN), 1
        yield Token(text, entry, start, end)
        at += size
