"""How well the words of a claim match what an OCR reader read, forgiving what such readers are known to confuse.

Case, accents and punctuation do not count, and spaces may be missing or too many. Where characters differ that look alike (O and 0, l
and I, S and 5, m and rn), the words count as similar as with one other letter, because MAIL and MALL are two words. Numbers
are compared digit by digit, with their points and colons: 19 is not 16, and 3.5 is not 35.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from vlrm_ray.types import Word

HEIGHTS = (12, 20, 32)
"""Limits of the heights in pixels that readers are measured at: a text of less than 12 pixels is of height "0"."""
_SINGLE = str.maketrans(
    {
        "0": "o",
        "1": "l",
        "i": "l",
        "|": "l",
        "5": "s",
        "8": "b",
        "2": "z",
        "6": "g",
    }
)
_DOUBLE = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_DIGIT = re.compile(r"\d")
_LEAST_PART = 4
"""A word of at least this many characters may be a part of a longer text without a space, ..."""
_WITHOUT_SPACE = 0.9
"""... and is then this similar to it: "open" is not "opening"."""


@lru_cache(maxsize=4096)
def plain_form(text: str) -> str:
    """A text without case, accents and punctuation but for that within numbers, words separated by single spaces."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)  # 1,000
    plain = re.sub(r"(?<=\d),(?=\d)", ".", plain)
    plain = re.sub(r"['’`´]|(?<!\d)\.|\.(?!\d)", "", plain)
    return " ".join(re.findall(r"\d+(?:[.:]\d+)+|[^\W_]+", plain))


@lru_cache(maxsize=4096)
def skeleton(text: str) -> str:
    """A text without what readers confuse, words separated by single spaces."""
    plain = re.sub(r"[.:]", " ", plain_form(text)).translate(_SINGLE)
    for double, single in _DOUBLE:
        plain = plain.replace(double, single)
    return plain


def text_strength(claimed: str, words: Sequence[Word]) -> tuple[float, tuple[int, ...]]:
    """How well a claimed text was read, 0 to 1, and the indices of the words that match it best.

    Each word of the claim is as similar as the most similar word that was read (1 minus the normalized edit distance,
    squared), weighted with the reader's score; the least similar one counts.
    """
    tokens = plain_form(claimed).split()
    if not tokens or not words:
        return 0.0, ()
    read = [(plain_form(word.text), word.score) for word in words]
    whole = max(range(len(read)), key=lambda i: _whole(tokens, read[i][0]) * read[i][1])
    strength, cited = _whole(tokens, read[whole][0]) * read[whole][1], (whole,)
    best = [max(range(len(read)), key=lambda i, t=token: _part(t, read[i][0]) * read[i][1]) for token in tokens]  # type: ignore[misc]
    apart = min(_part(token, read[i][0]) * read[i][1] for token, i in zip(tokens, best, strict=True))
    return (apart, tuple(sorted(set(best)))) if apart >= strength else (strength, cited)


def _whole(tokens: Sequence[str], read: str) -> float:
    """Similarity of a whole claim and a whole text, both without spaces."""
    return _similarity("".join(tokens), read.replace(" ", "")) ** 2


def _part(token: str, read: str) -> float:
    """Similarity of one word and the most similar word of a text, or part of the text without spaces."""
    similarity = max((_similarity(token, t) for t in read.split()), default=0.0)
    joined = read.replace(" ", "")
    if len(token) >= _LEAST_PART and len(joined) > len(token) and not _DIGIT.search(token):
        similarity = max(similarity, fuzz.partial_ratio(token, joined) / 100 * _WITHOUT_SPACE)
    return float(similarity**2)


def _similarity(claimed: str, read: str) -> float:
    """1 for equal words; otherwise that of the words without what readers confuse, at most that of words with one other letter.

    Nothing is forgiven where a number is claimed.
    """
    if claimed == read:
        return 1.0
    if _DIGIT.search(claimed):
        return float(Levenshtein.normalized_similarity(claimed, read))
    alike = float(Levenshtein.normalized_similarity(skeleton(claimed), skeleton(read).replace(" ", "")))
    return min(alike, 1 - 1 / max(len(claimed), len(read)))


def height_group(height: float) -> str:
    """The group of `HEIGHTS` that a height in pixels belongs to, by its lower limit: "0", "12", "20" or "32"."""
    return str(max((limit for limit in HEIGHTS if height >= limit), default=0))


def tallest(words: Sequence[Word]) -> str:
    """Height group of the tallest text; "" without one."""
    return height_group(max(word.box[3] - word.box[1] for word in words)) if words else ""
