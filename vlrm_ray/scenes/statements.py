"""Sentences about a picture of the embedded world, each with its claim type and whether it is true.

Truth comes from the drawn boxes, so it holds for scenes off the grid too. What people would argue
about (a circle a little left of a square) is not stated.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vlrm_ray.experts.geometry import centre, covered
from vlrm_ray.scenes.language import NUMBERS, plural
from vlrm_ray.scenes.render import SIZE, Box
from vlrm_ray.scenes.shifts import View
from vlrm_ray.scenes.world import COLORS, SHAPES, SIGN, WORDS, Thing
from vlrm_ray.types import ClaimType

NEAR_MISSES = {"STOP": "SHOP", "OPEN": "OVEN", "TAXI": "TAX", "BUS": "BUN", "CAFE": "CAGE", "PARK": "DARK"}
"""Other words, one letter apart."""
CLEAR = 0.15
"""Centres this share of the side apart stand beside each other, or one above the other, beyond dispute."""


@dataclass(frozen=True)
class Statement:
    """A response whose claim of one type is known to be true or false."""

    type: ClaimType
    text: str
    true: bool
    question: str = ""


def statements(view: View, rng: random.Random) -> Iterator[Statement]:
    """For each claim type a true and a false statement, as far as the picture offers them."""
    for kind, make in _MAKERS.items():
        for true in (True, False):
            said = make(view, rng, true)
            if said is not None:
                text, question = said
                yield Statement(kind, text.replace(" a orange", " an orange"), true, question)


Said = tuple[str, str] | None


def _object(view: View, rng: random.Random, true: bool) -> Said:
    there = sorted({t.shape for t in view.scene.things})
    absent = [s for s in (*SHAPES, SIGN) if s not in there]
    denies = bool(absent) and rng.random() < 0.3
    names = there if true is not denies else absent
    if not names:
        return None
    name = rng.choice(names)
    if denies:
        return rng.choice(
            ((f"There is no {name}.", ""), (f"I do not see a {name}.", ""), ("No.", f"Is there a {name}?"))
        )
    return rng.choice(
        ((f"There is a {name}.", ""), (f"The image shows a {name}.", ""), ("Yes.", f"Is there a {name}?"))
    )


def _attribute(view: View, rng: random.Random, true: bool) -> Said:
    single = [t for t in view.scene.shapes if view.scene.count(t.shape) == 1]
    if not single:
        return None
    thing = rng.choice(single)
    other = rng.choice([c for c in COLORS if c != thing.color])
    if rng.random() < 0.2:
        return f"The {thing.shape} is not {other if true else thing.color}.", ""
    color = thing.color if true else other
    return rng.choice(
        (
            (f"The {thing.shape} is {color}.", f"What color is the {thing.shape}?"),
            (f"There is a {color} {thing.shape}.", ""),
            (f"I can see a {color} {thing.shape} in the picture.", ""),
        )
    )


def _count(view: View, rng: random.Random, true: bool) -> Said:
    if rng.random() < 0.3:
        return _comparison(view, rng, true)
    thing = rng.choice(view.scene.shapes)
    color = thing.color if rng.random() < 0.4 else None
    right = view.scene.count(thing.shape, color)
    number = right if true else rng.choice([n for n in (right - 1, right + 1, right + 2) if 1 <= n <= 5])
    named = f"{color} {thing.shape}" if color else thing.shape
    exact = "exactly " if number == 1 else ""
    return f"There {'is' if number == 1 else 'are'} {exact}{NUMBERS[number]} {plural(named, number)}.", ""


def _comparison(view: View, rng: random.Random, true: bool) -> Said:
    first, second = rng.sample(SHAPES, 2)
    one, two = view.scene.count(first), view.scene.count(second)
    right = "more" if one > two else "fewer" if one < two else "as many"
    how = right if true else rng.choice([h for h in ("more", "fewer", "as many") if h != right])
    return f"There are {how} {first}s {'as' if how == 'as many' else 'than'} {second}s.", ""


def _relation(view: View, rng: random.Random, true: bool) -> Said:
    boxes = dict(zip(view.scene.things, view.picture.boxes, strict=True))
    unique = [t for t in boxes if sum(o.name == t.name for o in boxes) == 1]
    pairs = [(a, b) for a in unique for b in unique if a is not b]
    rng.shuffle(pairs)
    for one, two in pairs:
        known = _relations(boxes[one], boxes[two])
        fitting = [words for words, holds in known.items() if holds is true]
        if fitting:
            return f"The {one.name} is {rng.choice(fitting)} the {two.name}.", _where(one, rng)
    return None


def _relations(one: Box, two: Box) -> dict[str, bool]:
    """Relations beyond dispute, each with whether it holds."""
    (ax, ay), (bx, by) = centre(one), centre(two)
    across, down = (ax - bx) / SIZE, (ay - by) / SIZE
    known: dict[str, bool] = {}
    if abs(across) > CLEAR:
        known |= {"left of": across < 0, "to the right of": across > 0}
    if abs(down) > CLEAR:
        known |= {"above": down < 0, "below": down > 0}
    distance = max(abs(across), abs(down))
    if distance < 0.38 and min(abs(across), abs(down)) < 0.1 and covered(one, two) == 0:
        known["next to"] = True
    if distance > 0.6:
        known |= {"next to": False, "inside": False}
    return known


def _where(thing: Thing, rng: random.Random) -> str:
    return f"Where is the {thing.name}?" if rng.random() < 0.5 else ""


def _text(view: View, rng: random.Random, true: bool) -> Said:
    if view.scene.sign is None:
        return None
    word = view.scene.sign.word
    near = [NEAR_MISSES[word]] if word in NEAR_MISSES and rng.random() < 0.2 else []
    other = rng.choice(near or [w for w in WORDS if w != word])
    if rng.random() < 0.2:
        return f'The sign does not say "{other if true else word}".', ""
    said = word if true else other
    return rng.choice(
        ((f"The sign says {said}.", "What does the sign say?"), (f'There is a sign that reads "{said}".', ""))
    )


_MAKERS: dict[ClaimType, Callable[[View, random.Random, bool], Said]] = {
    ClaimType.OBJECT: _object,
    ClaimType.ATTRIBUTE: _attribute,
    ClaimType.COUNT: _count,
    ClaimType.RELATION: _relation,
    ClaimType.TEXT: _text,
}
