"""True and false sentences about an image of the embedded scenes, one claim type each, for testing the experts.

Truth is computed from the drawn boxes, so it also holds for scenes whose objects are off the grid. Ambiguous claims,
such as "left of" for a circle a few pixels left of a square, are not made.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vlrm_ray.experts.geometry import centre, intersection_over_smaller
from vlrm_ray.scenes.language import NUMBERS, plural
from vlrm_ray.scenes.render import SIZE, Box
from vlrm_ray.scenes.shifts import LabelledImage
from vlrm_ray.scenes.world import COLORS, SHAPES, SIGN, WORDS, SceneObject
from vlrm_ray.types import ClaimType

NEAR_MISSES = {"STOP": "SHOP", "OPEN": "OVEN", "TAXI": "TAX", "BUS": "BUN", "CAFE": "CAGE", "PARK": "DARK"}
"""Words that look like a sign's word, for false statements about text."""
CLEAR = 0.15
"""Least distance of two centers along an axis, as a fraction of the image's side, for a direction to be unambiguous."""


@dataclass(frozen=True)
class Statement:
    """A response with a claim of known truth.

    Attributes:
        type: type of the claim.
        text: the response.
        true: whether the claim is true.
        question: the question that the response answers; may be empty.
    """

    type: ClaimType
    text: str
    true: bool
    question: str = ""


def statements(image: LabelledImage, rng: random.Random) -> Iterator[Statement]:
    """Yield a true and a false statement of each claim type, as far as the image allows them."""
    for claim_type, make in _MAKERS.items():
        for true in (True, False):
            made = make(image, rng, true)
            if made is not None:
                text, question = made
                yield Statement(claim_type, text.replace(" a orange", " an orange"), true, question)


TextAndQuestion = tuple[str, str] | None
"""A response and its question; None where the image does not allow such a statement."""


def _object(image: LabelledImage, rng: random.Random, true: bool) -> TextAndQuestion:
    present = sorted({o.shape for o in image.scene.objects})
    absent = [s for s in (*SHAPES, SIGN) if s not in present]
    negated = bool(absent) and rng.random() < 0.3
    names = present if true is not negated else absent
    if not names:
        return None
    name = rng.choice(names)
    if negated:
        return rng.choice(
            ((f"There is no {name}.", ""), (f"I do not see a {name}.", ""), ("No.", f"Is there a {name}?"))
        )
    return rng.choice(
        ((f"There is a {name}.", ""), (f"The image shows a {name}.", ""), ("Yes.", f"Is there a {name}?"))
    )


def _attribute(image: LabelledImage, rng: random.Random, true: bool) -> TextAndQuestion:
    unique = [o for o in image.scene.shapes if image.scene.count(o.shape) == 1]
    if not unique:
        return None
    obj = rng.choice(unique)
    other = rng.choice([c for c in COLORS if c != obj.color])
    if rng.random() < 0.2:
        return f"The {obj.shape} is not {other if true else obj.color}.", ""
    color = obj.color if true else other
    return rng.choice(
        (
            (f"The {obj.shape} is {color}.", f"What color is the {obj.shape}?"),
            (f"There is a {color} {obj.shape}.", ""),
            (f"I can see a {color} {obj.shape} in the picture.", ""),
        )
    )


def _count(image: LabelledImage, rng: random.Random, true: bool) -> TextAndQuestion:
    if rng.random() < 0.3:
        return _comparison(image, rng, true)
    obj = rng.choice(image.scene.shapes)
    color = obj.color if rng.random() < 0.4 else None
    right = image.scene.count(obj.shape, color)
    number = right if true else rng.choice([n for n in (right - 1, right + 1, right + 2) if 1 <= n <= 5])
    name = f"{color} {obj.shape}" if color else obj.shape
    exactly = "exactly " if number == 1 else ""
    return f"There {'is' if number == 1 else 'are'} {exactly}{NUMBERS[number]} {plural(name, number)}.", ""


def _comparison(image: LabelledImage, rng: random.Random, true: bool) -> TextAndQuestion:
    first, second = rng.sample(SHAPES, 2)
    first_count, second_count = image.scene.count(first), image.scene.count(second)
    right = "more" if first_count > second_count else "fewer" if first_count < second_count else "as many"
    claimed = right if true else rng.choice([c for c in ("more", "fewer", "as many") if c != right])
    return f"There are {claimed} {first}s {'as' if claimed == 'as many' else 'than'} {second}s.", ""


def _relation(image: LabelledImage, rng: random.Random, true: bool) -> TextAndQuestion:
    boxes = dict(zip(image.scene.objects, image.rendered.boxes, strict=True))
    unique = [obj for obj in boxes if sum(o.name == obj.name for o in boxes) == 1]
    pairs = [(a, b) for a in unique for b in unique if a is not b]
    rng.shuffle(pairs)
    for first, second in pairs:
        known = _unambiguous_relations(boxes[first], boxes[second])
        fitting = [relation for relation, holds in known.items() if holds is true]
        if fitting:
            return f"The {first.name} is {rng.choice(fitting)} the {second.name}.", _where_question(first, rng)
    return None


def _unambiguous_relations(first: Box, second: Box) -> dict[str, bool]:
    """Whether the first box stands in each relation to the second; ambiguous relations are left out."""
    (ax, ay), (bx, by) = centre(first), centre(second)
    across, down = (ax - bx) / SIZE, (ay - by) / SIZE
    known: dict[str, bool] = {}
    if abs(across) > CLEAR:
        known |= {"left of": across < 0, "to the right of": across > 0}
    if abs(down) > CLEAR:
        known |= {"above": down < 0, "below": down > 0}
    distance = max(abs(across), abs(down))
    if distance < 0.38 and min(abs(across), abs(down)) < 0.1 and intersection_over_smaller(first, second) == 0:
        known["next to"] = True
    if distance > 0.6:
        known |= {"next to": False, "inside": False}
    return known


def _where_question(obj: SceneObject, rng: random.Random) -> str:
    return f"Where is the {obj.name}?" if rng.random() < 0.5 else ""


def _text(image: LabelledImage, rng: random.Random, true: bool) -> TextAndQuestion:
    if image.scene.sign is None:
        return None
    word = image.scene.sign.word
    near_miss = [NEAR_MISSES[word]] if word in NEAR_MISSES and rng.random() < 0.2 else []
    other = rng.choice(near_miss or [w for w in WORDS if w != word])
    if rng.random() < 0.2:
        return f'The sign does not say "{other if true else word}".', ""
    claimed = word if true else other
    return rng.choice(
        (
            (f"The sign says {claimed}.", "What does the sign say?"),
            (f'There is a sign that reads "{claimed}".', ""),
        )
    )


_MAKERS: dict[ClaimType, Callable[[LabelledImage, random.Random, bool], TextAndQuestion]] = {
    ClaimType.OBJECT: _object,
    ClaimType.ATTRIBUTE: _attribute,
    ClaimType.COUNT: _count,
    ClaimType.RELATION: _relation,
    ClaimType.TEXT: _text,
}
