"""Draws composites: cut-outs and printed texts on landscapes, with everything in them known.

Image `index` of a split is the same at each build: all choices come from a generator that is seeded with both.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from jobs.photographs.catalogue import OTHER, SOME, Cutout, backgrounds, cutouts
from jobs.photographs.layout import Photos
from jobs.photographs.nouns import HYPERNYMS
from jobs.photographs.plates import all_words, moved, random_plate
from jobs.photographs.split import deal, of_split, split_cutouts
from jobs.photographs.truth import Box, TrueImage, TrueObject, TrueText, counts_of
from vlrm_ray.ids import seed_of

SIZES = ((640, 480), (640, 480), (640, 427), (480, 640), (800, 600))
SIDES = (32, 320)
"""Range of the longer side of an object, in pixels."""
MOST_ENLARGED = 1.7
MOST_HIDDEN = 0.12
"""Largest overlap of two boxes, as a share of the smaller one."""
ANIMALS = HYPERNYMS["animal"] | {
    *("camel", "deer", "donkey", "hippopotamus", "pig", "rhinoceros", "rabbit", "squirrel", "kangaroo", "koala")
}
"""COCO classes and other nouns that are animals."""
_TRIES = 40
_OPAQUE = 128


@dataclass(frozen=True)
class Material:
    """What the composites of a split are made of.

    Attributes:
        cutouts: cut-outs with their RGBA pixels, by class.
        backgrounds: backgrounds by name.
        words: texts to print.
    """

    cutouts: dict[str, list[tuple[Cutout, Image.Image]]]
    backgrounds: dict[str, Image.Image]
    words: list[str]


def load_material(cache: Photos, split: str) -> Material:
    """The cut-outs, backgrounds and words of a split."""
    sides = split_cutouts(cutouts())
    chosen: dict[str, list[tuple[Cutout, Image.Image]]] = {}
    for cutout in cutouts():
        if sides[cutout.group] == split:
            path = cache.cutouts / cutout.class_name / f"{cutout.name}.png"
            chosen.setdefault(cutout.class_name, []).append((cutout, Image.open(path).convert("RGBA")))
    names = of_split(deal(backgrounds()), split)
    return Material(
        dict(sorted(chosen.items())),
        {name: Image.open(cache.backgrounds / f"{name}.jpg").convert("RGB") for name in names},
        of_split(deal(all_words()), split),
    )


def compose(material: Material, split: str, index: int) -> tuple[Image.Image, TrueImage]:
    """Draw composite `index` of a split; its file name is not set."""
    rng = random.Random(seed_of("composite", split, index))
    name = rng.choice(sorted(material.backgrounds))
    image = _landscape(material.backgrounds[name], rng.choice(SIZES), rng)
    objects: list[TrueObject] = []
    texts: list[TrueText] = []
    for cutout, pixels in _chosen(material, rng):
        _paste_cutout(image, cutout, pixels, objects, texts, rng)
    for word in rng.sample(material.words, rng.choice((0, 0, 1, 1, 1, 2))):
        _paste_plate(image, word, objects, texts, rng)
    found = tuple(objects)
    counts, unsure = counts_of(found), frozenset[str]().union(*(o.unsure for o in found))
    colors = {n: tuple(o.color for o in found if o.name == n) for n in counts}
    nouns = {n: frozenset(o.noun for o in found if o.name == n and o.noun) for n in colors}
    animals = any(o.name in ANIMALS or o.noun in ANIMALS for o in found)
    return image, TrueImage(
        "",
        split,
        "composite",
        *image.size,
        {name: SOME if name in unsure else number for name, number in counts.items()},
        unsure - counts.keys(),
        nouns,
        colors,
        found,
        tuple(texts),
        animals,
        name,
    )


def _landscape(background: Image.Image, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A random part of a background, at this size."""
    width, height = background.size
    scale = min(width / size[0], height / size[1]) * rng.uniform(0.75, 1)
    w, h = round(size[0] * scale), round(size[1] * scale)
    x, y = rng.randint(0, width - w), rng.randint(0, height - h)
    part = background.crop((x, y, x + w, y + h)).resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(rng.uniform(0.85, 1.1))


def _chosen(material: Material, rng: random.Random) -> list[tuple[Cutout, Image.Image]]:
    """The cut-outs of an image: up to three classes, some of them several times."""
    chosen = []
    for name in rng.sample(sorted(material.cutouts), rng.choice((0, 1, 1, 1, 2, 2, 2, 2, 3, 3))):
        number = 1 if name == OTHER else rng.choices((1, 2, 3, 4, 5), (10, 5, 3, 2, 1))[0]
        stock = material.cutouts[name]
        chosen += rng.sample(stock, number) if number <= len(stock) else rng.choices(stock, k=number)
    return chosen


def _paste_cutout(
    image: Image.Image,
    cutout: Cutout,
    pixels: Image.Image,
    objects: list[TrueObject],
    texts: list[TrueText],
    rng: random.Random,
) -> None:
    """Paste a cut-out at a free place and record it; it is left out if there is none."""
    most = min(SIDES[1], 0.75 * min(image.size), MOST_ENLARGED * max(pixels.size))
    least = min(most, 130 if cutout.bottom else SIDES[0])
    scale = least * (most / least) ** rng.random() / max(pixels.size)
    size = (max(2, round(pixels.width * scale)), max(2, round(pixels.height * scale)))
    scaled = pixels.resize(size, Image.Resampling.LANCZOS)
    if not cutout.words and rng.random() < 0.5:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    color, alpha = scaled.convert("RGB"), scaled.getchannel("A")
    color = ImageEnhance.Brightness(color).enhance(rng.uniform(0.93, 1.07))
    x0, y0, x1, y1 = _opaque_box(np.asarray(alpha))
    for _ in range(_TRIES):
        x = rng.randint(0, image.width - size[0])
        y = image.height - size[1] if cutout.bottom else rng.randint(0, image.height - size[1])
        box = (float(x + x0), float(y + y0), float(x + x1), float(y + y1))
        if _is_free(box, [o.box for o in objects]):
            image.paste(color, (x, y), alpha)
            objects.append(TrueObject(cutout.class_name, box, cutout.noun, cutout.color, cutout.group, cutout.unsure))
            if cutout.words:
                texts.append(TrueText(cutout.words, box, 0, "sign" in (cutout.noun, cutout.class_name[-4:])))
            return


def _paste_plate(
    image: Image.Image, word: str, objects: Sequence[TrueObject], texts: list[TrueText], rng: random.Random
) -> None:
    """Print a text at a place that is free of objects and texts; it is left out if there is none."""
    plate, text = random_plate(word, image.width, rng)
    taken = [o.box for o in objects] + [t.box for t in texts if t.box]
    if plate.width >= image.width or plate.height >= image.height:
        return
    for _ in range(_TRIES):
        x, y = rng.randint(0, image.width - plate.width), rng.randint(0, image.height - plate.height)
        if _is_free((x, y, x + plate.width, y + plate.height), taken, 0.0):
            image.paste(plate, (x, y), plate)
            texts.append(moved(text, x, y))
            return


def _opaque_box(alpha: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((alpha >= _OPAQUE).any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _is_free(box: Box, taken: Sequence[Box], most: float = MOST_HIDDEN) -> bool:
    """Whether a box overlaps with each of the others by at most this share of the smaller one."""
    return all(_overlap(box, other) <= most for other in taken)


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b))


def quality(split: str, index: int) -> int:
    """JPEG quality of a composite."""
    return random.Random(seed_of("quality", split, index)).randint(78, 95)
