"""The corpus of difficult sentences is sound: it covers every construction, and its truth values are right."""

import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from vlrm_ray.experts.evidence import PALETTE
from vlrm_ray.scenes.hard.facts import NUMBERS, Facts
from vlrm_ray.scenes.hard_statements import (
    PER_IMAGE,
    TEMPLATES,
    HardStatement,
    all_statements,
    hard_statements,
    written_statements,
)
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, LabelledImage, labelled_image
from vlrm_ray.scenes.statements import NEAR_MISSES
from vlrm_ray.scenes.world import COLORS, SHAPES, SIGN, WORDS, Scene, SceneObject

IMAGES, FIRST_SEED = 200, 910_000
FOREIGN = {"rectangle", "hexagon", "oval", "diamond", "heart", "cube", "sphere", "dog", "cat", "person", "car", "tree"}


@cache
def images() -> tuple[LabelledImage, ...]:
    return tuple(labelled_image(IN_DISTRIBUTION, FIRST_SEED + i) for i in range(IMAGES))


def sampled(image: LabelledImage) -> list[HardStatement]:
    return list(hard_statements(image, random.Random(f"hard-{image.scene.seed}")))


def everything(image: LabelledImage) -> list[HardStatement]:
    facts = Facts.of(image, image.scene.seed)
    return [s for construction in TEMPLATES for s in all_statements(construction, facts)]


def colors(scene: Scene, shape: str) -> list[str]:
    return [o.color for o in scene.objects if o.shape == shape]


def color(scene: Scene, shape: str) -> str:
    """The colour of "the circle", which must be the only one."""
    (only,) = colors(scene, shape)
    return only


def number(scene: Scene, shape: str) -> int:
    return len(colors(scene, shape))


def word(scene: Scene) -> str:
    """The word of "the sign", which must exist."""
    (only,) = (o.word for o in scene.objects if o.shape == SIGN)
    return only


def value(numeral: str) -> int:
    return int(numeral) if numeral.isdecimal() else NUMBERS.index(numeral.lower())


TOKENS = {
    "SHAPE": "(circle|square|triangle|star|sign)",
    "COLOR": f"({'|'.join(COLORS)})",
    "NUMBER": rf"(\d|{'|'.join(NUMBERS)})",
    "WORD": f"({'|'.join(WORDS)})",
}
READINGS: dict[str, Callable[..., bool]] = {
    "Not (?:all|every) SHAPEs? (?:is|are) COLOR": lambda s, a, c: any(x != c for x in colors(s, a)),
    "Neither the SHAPE nor the SHAPE is COLOR": lambda s, a, b, c: c not in (color(s, a), color(s, b)),
    "There is neither a SHAPE nor a SHAPE in the image": lambda s, a, b: number(s, a) + number(s, b) == 0,
    "There is no SHAPE or SHAPE": lambda s, a, b: number(s, a) + number(s, b) == 0,
    "There are no SHAPEs other than the COLOR one": lambda s, a, c: colors(s, a) == [c],
    "No shape other than the SHAPE is COLOR": lambda s, a, c: all((o.shape == a) == (o.color == c) for o in s.objects),
    "One SHAPE is not COLOR": lambda s, a, c: sum(x != c for x in colors(s, a)) == 1,
    "None of the SHAPEs (?:is|are) COLOR": lambda s, a, c: c not in colors(s, a),
    "There (?:isn't any|aren't any|is not a single) SHAPEs?": lambda s, a: number(s, a) == 0,
    "The SHAPE is not COLOR but COLOR": lambda s, a, no, yes: color(s, a) == yes != no,
    "The SHAPE, not the SHAPE, is COLOR": lambda s, a, b, c: color(s, a) == c != color(s, b),
    "Without the SHAPE, there would be NUMBER shapes": lambda s, a, n: len(s.objects) - number(s, a) == value(n),
    "If the SHAPE were COLOR, it would have the same color as the SHAPE": lambda s, a, c, b: color(s, b) == c,
    "If there were one more SHAPE, there would be NUMBER SHAPEs": lambda s, a, n, _: number(s, a) + 1 == value(n),
    "The claim that there is a SHAPE is false": lambda s, a: number(s, a) == 0,
    "It is (?:not true|false) that there is a SHAPE": lambda s, a: number(s, a) == 0,
    "It (?:is not true|would be wrong to say) that there is no SHAPE": lambda s, a: number(s, a) > 0,
    "It is not true that the SHAPE is COLOR": lambda s, a, c: color(s, a) != c,
    '"There is a SHAPE" is false': lambda s, a: number(s, a) == 0,
    "Someone might say there is a SHAPE, but there is none": lambda s, a: number(s, a) == 0,
    "SHAPEs: NUMBER; SHAPEs: NUMBER": lambda s, a, n, b, m: number(s, a) == int(n) and number(s, b) == int(m),
    r"There is an? SHAPE \(COLOR\)": lambda s, a, c: color(s, a) == c,
    "There are NUMBER[-–]NUMBER SHAPEs": lambda s, low, high, a: value(low) <= number(s, a) <= value(high),
    "There are (?:either )?NUMBER or NUMBER SHAPEs": lambda s, n, m, a: number(s, a) in (value(n), value(m)),
    "There (?:is|are) at least NUMBER SHAPEs?": lambda s, n, a: number(s, a) >= value(n),
    "There (?:is|are) at most NUMBER SHAPEs?": lambda s, n, a: number(s, a) <= value(n),
    "There are fewer than NUMBER SHAPEs": lambda s, n, a: number(s, a) < value(n),
    "Both SHAPEs are COLOR": lambda s, a, c: colors(s, a) == [c, c],
    "(?:Every|Each) SHAPE is COLOR": lambda s, a, c: set(colors(s, a)) == {c},
    "There is no SHAPE that is not COLOR": lambda s, a, c: set(colors(s, a)) == {c},
    "Half of the SHAPEs are COLOR": lambda s, a, c: 2 * colors(s, a).count(c) == number(s, a),
    "There are as many SHAPEs as SHAPEs": lambda s, a, b: number(s, a) == number(s, b),
    "There are twice as many SHAPEs as SHAPEs": lambda s, a, b: number(s, a) == 2 * number(s, b),
    "There are fewer SHAPEs than SHAPEs": lambda s, a, b: number(s, a) < number(s, b),
    "Only the SHAPE is COLOR": lambda s, a, c: all((o.shape == a) == (o.color == c) for o in s.objects),
    "There is (?:only|just) one SHAPE": lambda s, a: number(s, a) == 1,
    "The SHAPE is COLOR, the SHAPE COLOR": lambda s, a, c, b, d: color(s, a) == c and color(s, b) == d,
    "The SHAPE is COLOR and so is the SHAPE": lambda s, a, c, b: color(s, a) == c == color(s, b),
    "One SHAPE is COLOR, the other COLOR": lambda s, a, c, d: sorted(colors(s, a)) == sorted([c, d]),
    "There is a SHAPE and a SHAPE, both COLOR": lambda s, a, b, c: color(s, a) == c == color(s, b),
    "The SHAPE is either COLOR or COLOR": lambda s, a, c, d: color(s, a) in (c, d),
    "At first glance the SHAPE looks COLOR, but it is COLOR": lambda s, a, _, c: color(s, a) == c,
    'The sign says "WORD", not "WORD"': lambda s, yes, no: word(s) == yes != no,
    r"The sign says WORD, but there is no \w+": lambda s, w: word(s) == w,
    r"The (\w+most|lowest) shape is a SHAPE": lambda s, side, a: outermost(s, side) == a,
    "The (top|bottom|left|right) (?:row|column) is empty": lambda s, side: not any(on_side(side, o) for o in s.objects),
}
"""Independent truth of some sentences, by a pattern of the whole text; the arguments are the scene and the groups."""


def read(statement: HardStatement, scene: Scene) -> Iterator[tuple[str, bool]]:
    """Each reading that a text matches, with the truth that it finds."""
    for pattern, truth in READINGS.items():
        if match := compiled(pattern).fullmatch(statement.text):
            yield pattern, truth(scene, *(g.lower() if g.lower() in SHAPES else g for g in match.groups()))


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    for token, expression in TOKENS.items():
        pattern = pattern.replace(token, expression)
    return re.compile(rf"(?i:{pattern})\.")


def on_side(side: str, obj: SceneObject) -> bool:
    return {"top": obj.row == 0, "bottom": obj.row == 2, "left": obj.col == 0, "right": obj.col == 2}[side]


def outermost(scene: Scene, side: str) -> str:
    """Shape of the object farthest to a side, from its grid cell and offset."""
    keys = {
        "leftmost": lambda o: o.col + o.dx,
        "rightmost": lambda o: -o.col - o.dx,
        "topmost": lambda o: o.row + o.dy,
        "lowest": lambda o: -o.row - o.dy,
    }
    return min(scene.objects, key=keys[side]).shape


def test_every_construction_has_true_and_false_sentences() -> None:
    counts = Counter((s.construction, s.true) for image in images() for s in sampled(image))
    assert all(counts[construction, true] >= 5 for construction in TEMPLATES for true in (True, False)), counts
    assert counts.total() >= 4_000
    assert all(sum(n for (_, t), n in counts.items() if t is true) >= 2_000 for true in (True, False))
    assert len(TEMPLATES) >= 60


def test_a_seed_determines_the_sentences() -> None:
    assert [sampled(image) for image in images()[:20]] == [sampled(image) for image in images()[:20]]
    assert sampled(images()[0]) != list(hard_statements(images()[0], random.Random("another seed")))


def test_an_image_gets_as_many_constructions_as_promised() -> None:
    assert all(len({s.construction for s in sampled(image)}) <= PER_IMAGE for image in images())
    assert all(len(sampled(image)) >= PER_IMAGE for image in images())


def test_no_sentence_is_both_true_and_false_of_an_image() -> None:
    for image in images()[:40]:
        truths: dict[tuple[str, str], bool] = {}
        for s in everything(image):
            assert truths.setdefault((s.question, s.text), s.true) is s.true, (image.scene.objects, s)


def test_an_independent_reading_of_the_sentences_finds_the_same_truth() -> None:
    used: Counter[tuple[str, bool]] = Counter()
    for image in images()[:40]:
        for s in everything(image):
            for pattern, true in read(s, image.scene):
                assert true is s.true, (pattern, image.scene.objects, s)
                used[pattern, true] += 1
    assert not [(pattern, true) for pattern in READINGS for true in (True, False) if not used[pattern, true]]


@pytest.mark.parametrize("kind", ["overlap", "small_objects", "unseen_pairs"])
def test_shifted_images_get_sentences_too(kind: str) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 20):
        image = labelled_image(kind, seed)
        names = {o.color for o in image.scene.shapes} | set(COLORS)
        statements = sampled(image)
        assert len(statements) >= PER_IMAGE / 2
        assert all(mentioned_colors(s.text) <= names | {"white"} for s in statements)


def mentioned_colors(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower())) & PALETTE.keys()


def test_the_texts_are_well_formed() -> None:
    for image in images()[:40]:
        for s in everything(image):
            assert s.text == s.text.strip() and s.text, s
            assert s.text[0] == s.text[0].upper(), s
            assert not re.search(r"\b[Aa] \W*(orange|EXIT|OPEN)\b|[a-z]  [a-z]", s.text), s


def test_the_written_sentences_are_many_and_distinct() -> None:
    scenes = written_statements()
    statements = [s for scene in scenes for s in scene.statements]
    assert len(scenes) >= 10
    assert all(sum(s.true is true for s in statements) >= 150 for true in (True, False))
    for scene in scenes:
        assert len({(s.question, s.text) for s in scene.statements}) == len(scene.statements), scene.name
    assert len({scene.scene.objects for scene in scenes}) == len(scenes)


def test_the_written_sentences_name_only_things_of_the_world() -> None:
    for scene in written_statements():
        for s in scene.statements:
            words = set(re.findall(r"[A-Za-z]+", s.text))
            lower = {w.lower().removesuffix("s") for w in words}
            assert not lower & FOREIGN, s
            assert mentioned_colors(s.text) <= COLORS.keys() | {"white"}, s
            assert {w for w in words if len(w) > 2 and w.isupper()} <= {*WORDS, *NEAR_MISSES.values()}, s
            about_a_thing = lower & {*SHAPES, SIGN, "shape", "object", "one", "image", "top", "row", "text"}
            assert about_a_thing or s.question or lower & COLORS.keys() or words & set(WORDS), s


def test_the_written_scenes_match_their_evidence() -> None:
    for scene in written_statements():
        assert [(o.name, o.color) for o in scene.evidence.objects] == [(o.shape, o.color) for o in scene.scene.objects]
        assert [w.text for w in scene.evidence.words] == [o.word for o in scene.scene.objects if o.word]
        assert all(o.shape in (*SHAPES, SIGN) and o.color in (*COLORS, "white") for o in scene.scene.objects)


def test_an_independent_reading_of_the_written_sentences_finds_the_same_truth() -> None:
    found = [
        (pattern, true, s)
        for scene in written_statements()
        for s in scene.statements
        for pattern, true in read(s, scene.scene)
    ]
    assert all(true is s.true for _, true, s in found), found
    assert len({pattern for pattern, _, _ in found}) >= 10


def test_each_process_draws_the_same_sentences() -> None:
    """Sets of texts have another order in each process."""
    program = (
        "from tests.unit.test_hard_statements import images, sampled\n"
        "print([s.text for image in images()[:20] for s in sampled(image)])"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(drawn) == 1
