"""Sentences that take back what was said before: "Wait, that is wrong."."""

import re
from collections.abc import Iterable, Iterator, Sequence, Set

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.scope.text import SentenceText, compile_pattern
from vlrm_ray.claims.scope.vocabulary import FRAGMENTS
from vlrm_ray.claims.tokens import Token

_MARKS = frozenset((
    "wait", "actually", "correction", "scratch", "oops", "sorry", "recount", "reconsider", "false", "wrong", "incorrect",
    "untrue", "inaccurate", "mistaken", "mistake", "nonsense", "lie", "joking", "kidding", "invented", "fabricated", "true",
    "case", "correct", "hold", "back", "strike", "rather", "mind", "thought", "misspoke", "miscounted", "erroneous",
))  # fmt: skip
"""Words of which one is in each retraction."""
_OPENERS = (
    "wait", "actually", "correction", "scratch that", "oops", "sorry", "hold on", "strike that", "no wait", "no actually", "let me recount",
    "let me reconsider", "let me correct", "let me look again", "on second thought", "on second thoughts", "i take that back", "i misspoke",
    "i miscounted", "i was wrong", "i was mistaken", "i am wrong", "my mistake", "my bad", "never mind", "or rather", "just kidding", "only joking",
    "i am kidding", "i made that up", "hmm wait", "but wait", "not really", "well actually", "apologies", "i stand corrected", "i apologize",
)  # fmt: skip
_DENIAL = compile_pattern(
    r"(?:(?:and|but|HERE|,) )*(?:(?:this|that|it|which|the W|CLAIM|W) (?:CLAIM |W )?(?:BE|IF be|PAST|SEEM|IF PAST|however BE)? ?"
    r"(?:(?:W |ONLY )?FALSE|NOT (?:W )?(?:TRUE|so|W))|(?:this|that|it) ISNT (?:W )?(?:TRUE|so)|(?:W :? )?(?:ONLY )?(?:FALSE|NOT (?:TRUE|so)))"
    r"(?: .*)?",
    FRAGMENTS,
)


_MID_SENTENCE = (
    ("sorry",), ("oops",), ("wait",), ("no", "wait"), ("correction",), ("scratch", "that"), ("strike", "that"), ("make", "that"), ("or", "rather"),
    ("i", "mean"), ("i", "meant"), ("hold", "on"), ("my", "mistake"), ("i", "mean", "to", "say"), ("no", ",", "make", "that"), ("no", ",", "wait"),
    ("no", ",", "sorry"), ("er", ","), ("uh", ","), ("um", ","), ("erm", ","), ("hmm", ","), ("well", ",", "no"), ("let", "me", "correct"), ("i", "misspoke"), ("pardon",), ("i", "should", "say"), ("hmm", ",", "no"), ("er", ",", "no"),
)  # fmt: skip
_MID_SENTENCE_MARKS = frozenset(word for phrase in _MID_SENTENCE for word in phrase[-2:] if word != ",")
_CORRECTS = re.compile(
    rf"(?<![^\W_])(?:{'|'.join(sorted({max(phrase, key=len) for phrase in _MID_SENTENCE}))})(?![^\W_])"
)
"""A response that corrects itself inside a sentence contains one of these words, in lower case."""
_BEFORE_CORRECTION = frozenset({"comma", "clause_break", "open_bracket", "colon"})


def split_at_corrections(sentences: Iterable[list[Token]], response: str) -> Iterator[tuple[list[Token], bool]]:
    """Split each sentence where it takes back its beginning: "two stars - sorry, one star".

    Args:
        sentences: the pieces of each sentence of the response.
        response: the response; most contain no word of a correction, so that none of their sentences is looked at.

    Yields:
        The pieces, with the one that closes them, and whether they take back what was said before.
    """
    if not _CORRECTS.search(response.lower()):
        yield from ((pieces, False) for pieces in sentences)
        return
    for pieces in sentences:
        at = _correction_inside(pieces)
        if at:
            yield [*pieces[:at], pieces[-1]], False
            yield pieces[at:], True
        else:
            yield pieces, False


def _correction_inside(pieces: Sequence[Token]) -> int:
    """Index of the first piece of a correction inside a sentence; 0 if there is none."""
    lower = [p.text.lower() for p in pieces]
    if _MID_SENTENCE_MARKS.isdisjoint(lower):
        return 0
    for i in range(1, len(pieces) - 1):
        if pieces[i - 1].entry.kind in _BEFORE_CORRECTION and any(
            tuple(lower[i : i + len(phrase)]) == phrase for phrase in _MID_SENTENCE
        ):
            return i
    return 0


def retracts(words: Set[str], pieces: Sequence[Token], lexicon: Lexicon) -> bool:
    """Whether a sentence takes back what was said before.

    Args:
        words: words and marks of the sentence, in lower case.
        pieces: the sentence, with the piece that ends it.
        lexicon: nouns, attributes and function words.
    """
    if _MARKS.isdisjoint(words):
        return False
    start = " ".join([p.text.lower() for p in pieces[:-1] if p.text != ","][:5]).replace("i 'm", "i am") + " "
    if start.startswith(tuple(f"{opener} " for opener in _OPENERS)):
        return True
    return bool(_DENIAL.fullmatch(SentenceText(pieces[:-1], lexicon).text))
