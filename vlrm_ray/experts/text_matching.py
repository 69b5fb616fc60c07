"""How well the words of a claim match what an OCR reader read, forgiving what such readers are known to confuse.

Case, accents and punctuation do not count. Characters that look alike count as one (0 and O, 1 and l and I, 5 and S, rn and m), and
spaces may be missing or too many.
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
        "9": "g",
        "q": "g",
    }
)
_DOUBLE = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_LEAST_PART = 4
"""A word of at least this many characters may be a part of a longer text without a space, ..."""
_WITHOUT_SPACE = 0.9
"""... and is then this similar to it: "open" is not "opening"."""


@lru_cache(maxsize=4096)
def skeleton(text: str) -> str:
    """A text without what readers confuse, words separated by single spaces."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c)).translate(_SINGLE)
    plain = re.sub(r"['’`´.]", "", plain)
    for double, single in _DOUBLE:
        plain = plain.replace(double, single)
    return " ".join(re.findall(r"[^\W_]+", plain))


def text_strength(claimed: str, words: Sequence[Word]) -> tuple[float, tuple[int, ...]]:
    """How well a claimed text was read, 0 to 1, and the indices of the words that match it best.

    Each word of the claim is as similar as the most similar word that was read (1 minus the normalized edit distance,
    squared), weighted with the reader's score; the least similar one counts.
    """
    tokens = skeleton(claimed).split()
    if not tokens or not words:
        return 0.0, ()
    read = [(skeleton(word.text), word.score) for word in words]
    whole = max(range(len(read)), key=lambda i: _whole(tokens, read[i][0]) * read[i][1])
    strength, cited = _whole(tokens, read[whole][0]) * read[whole][1], (whole,)
    best = [max(range(len(read)), key=lambda i, t=token: _part(t, read[i][0]) * read[i][1]) for token in tokens]  # type: ignore[misc]
    apart = min(_part(token, read[i][0]) * read[i][1] for token, i in zip(tokens, best, strict=True))
    return (apart, tuple(sorted(set(best)))) if apart >= strength else (strength, cited)


def _whole(tokens: Sequence[str], read: str) -> float:
    """Similarity of a whole claim and a whole text, both without spaces."""
    return float(Levenshtein.normalized_similarity("".join(tokens), read.replace(" ", "")) ** 2)


def _part(token: str, read: str) -> float:
    """Similarity of one word and the most similar word of a text, or part of the text without spaces."""
    similarity = max((Levenshtein.normalized_similarity(token, t) for t in read.split()), default=0.0)
    joined = read.replace(" ", "")
    if len(token) >= _LEAST_PART and len(joined) > len(token):
        similarity = max(similarity, fuzz.partial_ratio(token, joined) / 100 * _WITHOUT_SPACE)
    return float(similarity**2)


def height_group(height: float) -> str:
    """The group of `HEIGHTS` that a height in pixels belongs to, by its lower limit: "0", "12", "20" or "32"."""
    return str(max((limit for limit in HEIGHTS if height >= limit), default=0))


def tallest(words: Sequence[Word]) -> str:
    """Height group of the tallest text; "" without one."""
    return height_group(max(word.box[3] - word.box[1] for word in words)) if words else ""
