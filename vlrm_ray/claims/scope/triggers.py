"""Which sentences need an analysis: a quick check, since most sentences are plain."""

from collections.abc import Collection, Sequence, Set
from itertools import pairwise

from vlrm_ray.claims.scope.vocabulary import CLASSES
from vlrm_ray.claims.tokens import Token

_PLAIN_CLASSES = frozenset(
    {
        "",
        "×",
        "CHECKED",
        "BE",
        "DO",
        "CAN",
        "SEE",
        "SHOW",
        "READ",
        "VISIBLE",
        "HERE",
        "IMAGE",
        "SHAPE",
        "ACCOUNT",
        "REGION",
        "SCENE",
        "BESIDE",
    }
    | {
        "OVER",
        "UNDER",
        "AROUND",
        "MANY",
        "ONLY",
        "SEEM",
        "ALL",
        "GIVEN",
        "PREVIOUS",
        "OTHER",
        "MORE",
        "FEWER",
        "NUMBER",
        "IMPERATIVE",
    }
    | {"THEM", "PERSON", "LEAST", "UPTO", "ORMORE", "ORFEWER", "ABOUT", "ORSO"}
)
_RESTRICTING_CLASSES = frozenset(
    {
        "REGION",
        "BESIDE",
        "OVER",
        "UNDER",
        "OTHER",
        "MORE",
        "FEWER",
        "THEM",
        "LEAST",
        "UPTO",
        "ORMORE",
        "ORFEWER",
        "ABOUT",
        "ORSO",
    }
)
_COMMON = frozenset((
    "a", "an", "the", "and", "or", "is", "are", "am", "be", "been", "has", "have", "can", "do", "does", "in", "of", "on",
    "to", "from", "at", "it", "as", "with", "this", "that", "there", "first", "last", "next", "one", "two", "three", "half",
    "even", "many", "sign", "right", "some", "here", "up", "out", "over", "so", "more", "any", "picture", "image",
    "several", "time", "made", "lies", "text", "about", "around", "couple", "looks", "looking", "for", "sense", "bear",
    "under",
))  # fmt: skip


def _keys(classes: Collection[str]) -> frozenset[str]:
    """For each phrase of some classes, a word of it that is rare elsewhere; none for a phrase of common words."""
    phrases = [phrase.split(" ") for phrase, name in CLASSES.items() if name in classes]
    keys = {"that", *(words[0] for words in phrases if len(words) == 1)}
    longer = [[w for w in words if w not in _COMMON] for words in phrases if keys.isdisjoint(words)]
    return frozenset(keys | {max(words, key=len) for words in longer if words})


def _phrases(*classes: str) -> frozenset[str]:
    return frozenset(phrase for phrase, name in CLASSES.items() if name in classes)


_TRIGGERS = _keys(set(CLASSES.values()) - _PLAIN_CLASSES) | {"or", *"()[|=—~≈%:<>≤≥+×"}
_RESTRICTIONS = _keys(_RESTRICTING_CLASSES) | {
    "about",
    "each",
    "every",
    "per",
    "so",
    "around",
    "under",
    "more",
    "of",
    "left",
    "right",
    "over",
    "first",
    "last",
}
_OPENERS = _phrases("IMPERATIVE", "SEE", "SHOW") | {"what", "how", "why"}
_LOOKS = frozenset({"look", "looks", "looking"})
_IMAGES, _OTHERS = _phrases("IMAGE"), _phrases("PREVIOUS", "OTHER")
_PERSONS = frozenset({"i", "we", "you", "can", "i can", "you can", "we can", "one can"})
_PERCEIVING = _phrases("SEE", "SHOW", "")
_READING = _phrases("READ")
_BEFORE_THERE = frozenset({"comma", "and", "but", "clause_break", "end"})
_DENIED = (["content", "end"], ["content", "content", "end"])
_IN_NOUN_PHRASE = frozenset({"content", "word", "uncheckable", "vague", "adverb"})


def needs_analysis(words: Set[str], tokens: Sequence[Token]) -> bool:
    """Whether the reader may misread a sentence. It understands all others as they stand.

    Args:
        words: words and marks of the sentence, in lower case.
        tokens: the sentence.
    """
    if not _TRIGGERS.isdisjoint(words) and not _is_plain_denial(tokens):
        return True
    if ("for" in words and not _LOOKS.isdisjoint(words)) or not (
        _IMAGES.isdisjoint(words) or _OTHERS.isdisjoint(words)
    ):
        return True
    first, second = tokens[0], tokens[min(1, len(tokens) - 1)]
    opener = first.text.lower()
    if opener in _OPENERS or second.text.lower() in _OPENERS or (opener in ("a", "an") and "has" in words):
        return True
    if not _READING.isdisjoint(words) and not first.entry.noun:  # "Tom says ..."
        return True
    if first.entry.plural and second.entry.kind in ("be", "verb"):  # "circles are round"
        return True
    if not _PERSONS.isdisjoint(words) and any(
        a.text.lower() in _PERSONS and b.text.lower() not in _PERCEIVING for a, b in pairwise(tokens)
    ):
        return True
    if "there" in words and opener != "there" and _is_there_led_by_other_words(tokens):
        return True
    if ("more" in words or "less" in words) and any(  # "more red than blue"
        a.entry.kind == "more" and b.entry.attribute and not b.entry.noun for a, b in pairwise(tokens)
    ):
        return True
    return _has_unusual_number(words, tokens)


def _is_plain_denial(tokens: Sequence[Token]) -> bool:
    """ "There are no red circles", possibly after a comma."""
    start = 1 if tokens[0].entry.kind == "comma" else 0
    kinds = [t.entry.kind for t in tokens[start : start + 8]]
    return kinds[:3] == ["there", "be", "negator"] and tokens[start + 2].text.lower() == "no" and kinds[3:] in _DENIED


def _is_there_led_by_other_words(tokens: Sequence[Token]) -> bool:
    """ "I bet there is", in contrast to ", there is"."""
    return any(b.entry.kind == "there" and a.entry.kind not in _BEFORE_THERE for a, b in pairwise(tokens))


def _has_unusual_number(words: Set[str], tokens: Sequence[Token]) -> bool:
    """ "Two of the circles", "two to three circles", "two circles are red"."""
    numbers = [i for i, t in enumerate(tokens) if t.entry.kind == "number"]
    if not numbers:
        return False
    if not _RESTRICTIONS.isdisjoint(words) or (len(numbers) > 1 and "to" in words):
        return True
    for i in numbers:
        i += 1
        while tokens[i].entry.kind in _IN_NOUN_PHRASE:
            i += 1
        if tokens[i].entry.kind == "be":
            return True
    return False
