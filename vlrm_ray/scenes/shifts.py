"""Pictures that the experts were not trained on: noise, blur, small things, overlap, unseen colours.

A shift keeps the ground truth: it changes how a scene looks, or draws another scene.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from vlrm_ray.scenes.render import Picture, Rgb, paint
from vlrm_ray.scenes.world import COLORS, SHAPES, SIGN, Scene, Thing, World

FRESH_WORLD = World(bias=0.0, held_out=0.15, shape_counts=(0.1, 0.2, 0.3, 0.3, 0.1))
"""In distribution: what the experts were trained on, in new draws."""
_CROWDED = replace(FRESH_WORLD, shape_counts=(0, 0.3, 0.4, 0.2, 0.1))
IN_DISTRIBUTION = "in_distribution"
UNSEEN_COLORS: dict[str, Rgb] = {
    "pink": (250, 120, 185),
    "cyan": (25, 190, 205),
    "brown": (120, 75, 35),
    "black": (25, 25, 28),
}
"""No training scene has them, so every shape of these colours is an unseen pair."""


@dataclass(frozen=True)
class View:
    """A scene's ground truth beside its picture; boxes in the order of the scene's things."""

    scene: Scene
    picture: Picture


def view(kind: str, seed: int) -> View:
    """The picture of a seed, in distribution or under one of the `SHIFTS`."""
    scene, rng = FRESH_WORLD.sample(seed), random.Random(f"{kind}-{seed}")
    return View(scene, paint(scene)) if kind == IN_DISTRIBUTION else SHIFTS[kind](scene, rng)


def _noisy(scene: Scene, rng: random.Random) -> View:
    picture = paint(scene)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(np.asarray(picture.image).shape)
    spoiled = np.asarray(picture.image) + noise * rng.uniform(15, 60)
    return View(scene, replace(picture, image=Image.fromarray(spoiled.clip(0, 255).astype(np.uint8))))


def _blurred(scene: Scene, rng: random.Random) -> View:
    picture = paint(scene)
    return View(scene, replace(picture, image=picture.image.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 4.0)))))


def _small(scene: Scene, rng: random.Random) -> View:
    scene = Scene(scene.seed, tuple(replace(t, size=rng.uniform(0.08, 0.18)) for t in scene.things))
    return View(scene, paint(scene))


def _overlapping(scene: Scene, rng: random.Random) -> View:
    """Half of the shapes move onto another one, which they cover in part."""
    things = list(_CROWDED.sample(scene.seed).things)
    shapes = [i for i, t in enumerate(things) if t.shape != SIGN]
    for mover in rng.sample(shapes, len(shapes) // 2):
        target = things[rng.choice([i for i in shapes if i != mover])]
        things[mover] = _beside(things[mover], target, rng)
    moved = Scene(scene.seed, tuple(things))
    return View(moved, paint(moved))


def _beside(thing: Thing, target: Thing, rng: random.Random) -> Thing:
    # towards the middle of the picture: nothing moves out of it
    across, down = rng.choice(((1 - target.col or rng.choice((1, -1)), 0), (0, 1 - target.row or rng.choice((1, -1)))))
    distance = rng.uniform(0.5, 0.9) * (thing.size + target.size)
    return replace(
        thing, row=target.row, col=target.col, dx=target.dx + across * distance, dy=target.dy + down * distance
    )


def _unseen_pairs(scene: Scene, rng: random.Random) -> View:
    """Every other shape takes a colour that no training has shown, on any shape."""
    scene = Scene(
        scene.seed,
        tuple(
            replace(t, color=rng.choice(tuple(UNSEEN_COLORS))) if t.shape in SHAPES and rng.random() < 0.7 else t
            for t in scene.things
        ),
    )
    return View(scene, paint(scene, COLORS | UNSEEN_COLORS))


SHIFTS: dict[str, Callable[[Scene, random.Random], View]] = {
    "noise": _noisy,
    "blur": _blurred,
    "small_objects": _small,
    "overlap": _overlapping,
    "unseen_pairs": _unseen_pairs,
}
