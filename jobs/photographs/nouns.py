"""The words that people use for COCO's classes."""

import inflect

from jobs.photographs.coco import CLASSES

_WORDS = {
    "sports ball": ("ball",),
    "airplane": ("airplane", "plane"),
    "tv": ("TV", "television"),
    "motorcycle": ("motorcycle", "motorbike"),
    "bicycle": ("bicycle", "bike"),
    "cell phone": ("cell phone", "mobile phone"),
    "couch": ("couch", "sofa"),
    "refrigerator": ("refrigerator", "fridge"),
    "teddy bear": ("teddy bear",),
    "donut": ("donut", "doughnut"),
}
HYPERNYMS = {
    "animal": frozenset(("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")),
    "vehicle": frozenset(("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat")),
    "fruit": frozenset(("banana", "apple", "orange")),
}
"""Words for several classes."""
WITHOUT_COUNT = frozenset(("scissors", "skis", "broccoli", "fruit"))
"""Words that are not counted like others: "two scissors" may be one pair."""
PLURAL_ONLY = frozenset(("scissors", "skis"))
"""Words without a singular."""
_PLURALS = {"person": "people", "fruit": "fruit", "broccoli": "broccoli", "sheep": "sheep", "bison": "bison"}
_ENGINE = inflect.engine()


def words_of(name: str) -> tuple[str, ...]:
    """Words for a class; the class's own name if people use it."""
    return _WORDS.get(name, (name,))


def with_article(noun: str) -> str:
    """A noun with its indefinite article, such as "a dog", "an orange", "a pair of scissors" or "some broccoli"."""
    if noun in PLURAL_ONLY:
        return f"a pair of {noun}"
    return f"some {noun}" if _PLURALS.get(noun) == noun != "sheep" else str(_ENGINE.a(noun))


def plural(noun: str) -> str:
    """The plural of a noun."""
    return noun if noun in PLURAL_ONLY else _PLURALS.get(noun) or str(_ENGINE.plural(noun))


def number_word(number: int) -> str:
    """A number in letters."""
    return str(_ENGINE.number_to_words(number))


def hypernyms_of(name: str) -> list[str]:
    """Words for several classes that a class belongs to."""
    return [word for word, classes in HYPERNYMS.items() if name in classes]


assert all(classes <= set(CLASSES) for classes in HYPERNYMS.values())
