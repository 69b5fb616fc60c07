"""True and false statements about an image whose content is known.

Nothing is stated whose truth is not known: a photograph of "a person" gives no statement about a man unless the catalogue
says so, and classes in `unsure` are not mentioned. Numbers are exact: with three dogs, "there are two dogs" is false.
False statements are plausible: they name another class, word or color of the same split, a number that is off by one or
two, or the opposite place.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from jobs.photographs.catalogue import SOME
from jobs.photographs.nouns import (
    HYPERNYMS,
    PLURAL_ONLY,
    WITHOUT_COUNT,
    hypernyms_of,
    number_word,
    plural,
    with_article,
    words_of,
)
from jobs.photographs.truth import TrueImage, TrueObject
from vlrm_ray.ids import seed_of

CONFUSABLE: Mapping[str, frozenset[str]] = {
    "red": frozenset({"orange", "pink", "brown", "purple"}),
    "orange": frozenset({"red", "yellow", "brown", "pink"}),
    "yellow": frozenset({"orange", "green", "brown", "white"}),
    "green": frozenset({"yellow", "blue"}),
    "blue": frozenset({"purple", "black", "green"}),
    "purple": frozenset({"blue", "pink", "red"}),
    "pink": frozenset({"red", "orange", "purple", "white", "brown"}),
    "brown": frozenset({"red", "orange", "black", "gray", "yellow"}),
    "black": frozenset({"gray", "brown", "blue"}),
    "white": frozenset({"gray", "yellow", "pink"}),
    "gray": frozenset({"white", "black", "blue", "brown"}),
}
"""Colors that somebody else might call an object of a color. They make no false statement about it."""
MARGIN = 4
"""Free pixels between two boxes of which one is beside or above the other."""
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_PLACES = {
    "left": ("to the left of", "on the left of", "left of"),
    "right": ("to the right of", "on the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
}
_MOST_FALSE_NUMBER = 2


@dataclass(frozen=True)
class Statement:
    """A line of statements.jsonl.

    Attributes:
        image, split, kind: of the image, see `TrueImage`.
        type: type of the claim: object, count, attribute, relation or text.
        text: the sentence.
        true: whether it is true.
        shape: its shape in phrases.yaml; "by hand" for those of handwritten.yaml.
        hedged: whether it says that it is unsure.
    """

    image: str
    split: str
    kind: str
    type: str
    text: str
    true: bool
    shape: str
    hedged: bool = False

    def row(self) -> dict[str, Any]:
        """The statement as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Vocabulary:
    """What false statements of a split may name: classes, and texts."""

    classes: Sequence[str]
    texts: Sequence[str]


@cache
def phrases() -> dict[str, dict[str, str]]:
    """The shapes of phrases.yaml."""
    content: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("phrases.yaml").read_text("utf-8"))
    return content


def statements_about(image: TrueImage, vocabulary: Vocabulary) -> list[Statement]:
    """Statements about an image, the same at each call."""
    return list(_Writer(image, vocabulary).write())


class _Writer:
    """Writes the statements about one image."""

    def __init__(self, image: TrueImage, vocabulary: Vocabulary) -> None:
        self.image, self.vocabulary = image, vocabulary
        self.rng = random.Random(seed_of("statements", image.split, image.image))
        self.present = sorted(image.counts)
        self.absent = [name for name in vocabulary.classes if image.is_absent(name)]

    def write(self) -> Iterator[Statement]:
        parts: tuple[Callable[[], Iterator[Statement]], ...] = (
            self._objects,
            self._hypernyms,
            self._exact_nouns,
            self._pairs,
            self._counts,
            self._colors,
            self._relations,
            self._texts,
        )
        for part in parts:
            yield from part()

    def _state(self, kind: str, group: str, true: bool, **words: str) -> Statement:
        """A statement of a random shape of a group of phrases.yaml."""
        shape = self.rng.choice(sorted(phrases()[group]))
        capitals = {key.capitalize(): value[:1].upper() + value[1:] for key, value in words.items()}
        text = phrases()[group][shape].format(**words, **capitals)
        image = self.image
        return Statement(
            image.image, image.split, image.kind, kind, text, true, f"{group}.{shape}", hedged=group == "hedge"
        )

    def _noun(self, name: str) -> dict[str, str]:
        word = self.rng.choice(words_of(name))
        return {"a": with_article(word), "x": word, "xs": plural(word)}

    def _some(self, names: Sequence[str], most: int) -> list[str]:
        return self.rng.sample(list(names), min(most, len(names)))

    # --- objects --------------------------------------------------------------------------------

    def _objects(self) -> Iterator[Statement]:
        for name in self._some(self.present, 3):
            several = self.image.counts[name] >= 2 and self.rng.random() < 0.5
            yield self._state("object", "objects" if several else "object", True, **self._noun(name))
            if self.rng.random() < 0.5:
                yield self._state("object", "none", False, **self._noun(name))
        for name in self._some(self.absent, 3):
            yield self._state("object", "object", False, **self._noun(name))
        for name in self._some(self.absent, 2):
            yield self._state("object", "none", True, **self._noun(name))
        if self.rng.random() < 0.25:
            name = self.rng.choice([*self.present, *self._some(self.absent, 2)])
            yield self._state("object", "hedge", name in self.present, **self._noun(name))

    def _hypernyms(self) -> Iterator[Statement]:
        words = {word for name in self.present for word in hypernyms_of(name)}
        persons = self.image.counts.get("person", 1)
        if persons > 1 or (persons == SOME and self.image.kind == "natural"):  # those not counted there are several
            yield self._state("object", "objects", True, a="people", x="people", xs="people")
        if words:
            word = self.rng.choice(sorted(words))
            yield self._state("object", "object", True, a=with_article(word), x=word, xs=plural(word))
        lacking = [word for word in ("animal", "vehicle") if self._lacks(word)]
        if lacking and self.rng.random() < 0.5:
            word, negated = self.rng.choice(lacking), self.rng.random() < 0.5
            group = "none" if negated else "object"
            yield self._state("object", group, negated, a=with_article(word), x=word, xs=plural(word))

    def _lacks(self, word: str) -> bool:
        """Whether it is known that nothing in the image is called so."""
        strange = any(o.name not in self.image.counts for o in self.image.objects)  # of no COCO class
        known_animals = word != "animal" or not self.image.animals
        return known_animals and not strange and all(map(self.image.is_absent, HYPERNYMS[word]))

    def _exact_nouns(self) -> Iterator[Statement]:
        """Nouns that are narrower than a class, such as "a duck": true ones, and false ones of absent classes."""
        known = sorted((name, noun) for name, nouns in self.image.nouns.items() for noun in nouns)
        if known and self.rng.random() < 0.6:
            _, noun = self.rng.choice(known)
            yield self._state("object", "object", True, a=with_article(noun), x=noun, xs=plural(noun))
        narrower = {
            "person": ("man", "woman"),
            "bird": ("duck", "owl", "penguin"),
            "dog": ("husky", "puppy"),
            "cat": ("kitten",),
        }
        absent = [name for name in narrower if self.image.is_absent(name)]
        if absent and self.rng.random() < 0.4:
            noun = self.rng.choice(narrower[self.rng.choice(absent)])
            yield self._state("object", "object", False, a=with_article(noun), x=noun, xs=plural(noun))

    def _pairs(self) -> Iterator[Statement]:
        if len(self.present) >= 2:
            first, second = (self._noun(name) for name in self._some(self.present, 2))
            yield self._state("object", "both", True, b=second["a"], **first)
        if self.present and self.absent and self.rng.random() < 0.4:
            first, second = (self._noun(self.rng.choice(names)) for names in (self.present, self.absent))
            yield self._state("object", "both", False, b=second["a"], **first)

    # --- counts ---------------------------------------------------------------------------------

    def _counts(self) -> Iterator[Statement]:
        counted = [n for n in self.present if self.image.counts[n] != SOME and not WITHOUT_COUNT & set(words_of(n))]
        for name in self._some(counted, 2):
            number = self.image.counts[name]
            yield self._count(name, number, True)
            off = self.rng.choice(
                [d for d in range(-_MOST_FALSE_NUMBER, _MOST_FALSE_NUMBER + 1) if d and number + d >= 1]
            )
            yield self._count(name, number + off, False)
            if number >= 3 or (number == 1 and self.rng.random() < 0.3):
                yield self._state("count", "count_several", number >= 3, **self._noun(name))

    def _count(self, name: str, number: int, true: bool) -> Statement:
        if number == 1:
            return self._state("count", "count_one", true, **self._noun(name))
        if number == 2 and self.rng.random() < 0.4:
            return self._state("count", "count_two", true, **self._noun(name))
        written = number_word(number) if self.rng.random() < 0.7 else str(number)
        return self._state("count", "count", true, n=written, **self._noun(name))

    # --- colors ---------------------------------------------------------------------------------

    def _colors(self) -> Iterator[Statement]:
        for name, colors in sorted(self.image.colors.items()):
            if "" in colors or not colors or len(set(colors)) > 1:
                continue
            (color,), noun = set(colors), self._noun(name)
            wrong = self.rng.choice([c for c in CONFUSABLE if c != color and c not in CONFUSABLE[color]])
            if noun["x"] == color:  # "the orange is orange"
                continue
            yield self._color(color, True, noun)
            yield self._color(wrong, False, noun)
            if len(colors) == 1 and self.rng.random() < 0.3:
                negated = self.rng.choice((color, wrong))
                yield self._state("attribute", "attribute_not", negated == wrong, color=negated, **noun)

    def _color(self, color: str, true: bool, noun: Mapping[str, str]) -> Statement:
        written = "grey" if color == "gray" and self.rng.random() < 0.5 else color
        return self._state("attribute", "attribute", true, color=written, a_color=with_article(written), **noun)

    # --- places ---------------------------------------------------------------------------------

    def _relations(self) -> Iterator[Statement]:
        alone = [o for o in self.image.objects if self.image.counts.get(o.name) == 1 and o.name not in PLURAL_ONLY]
        pairs = [(a, b, place) for a in alone for b in alone for place in places_of(a, b)]
        for a, b, place in self.rng.sample(pairs, min(2, len(pairs))):
            yield self._relation(a, b, place, True)
            yield self._relation(a, b, OPPOSITE[place], False)

    def _relation(self, a: TrueObject, b: TrueObject, place: str, true: bool) -> Statement:
        first, second = self._noun(a.name), self._noun(b.name)
        where = self.rng.choice(_PLACES[place])
        return self._state("relation", "relation", true, where=where, y=second["x"], b=second["a"], **first)

    # --- texts ----------------------------------------------------------------------------------

    def _texts(self) -> Iterator[Statement]:
        printed = {text.text.casefold() for text in self.image.texts}
        others = [text for text in self.vocabulary.texts if text.casefold() not in printed]
        for text in self.image.texts:
            yield self._text(text.text, text.sign, True)
            yield self._text(self.rng.choice(others), text.sign, False)
        if not printed and self.image.kind == "composite" and self.rng.random() < 0.3:
            yield self._text(self.rng.choice(others), self.rng.random() < 0.5, False)

    def _text(self, text: str, on_sign: bool, true: bool) -> Statement:
        cased = self.rng.choice((text, text, text.upper(), text.lower(), text.title()))
        quoted = self.rng.choice(('"{}"', '"{}"', "'{}'", "“{}”")).format(cased)
        word = "words" if " " in text else "word"
        return self._state("text", "sign" if on_sign and self.rng.random() < 0.7 else "text", true, t=quoted, word=word)


def places_of(a: TrueObject, b: TrueObject) -> list[str]:
    """Where one object is, seen from another: left, right, above or below, if their boxes are apart in that direction."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.box, b.box
    gaps = {"left": bx0 - ax1, "right": ax0 - bx1, "above": by0 - ay1, "below": ay0 - by1}
    return [place for place, gap in gaps.items() if gap >= MARGIN]
