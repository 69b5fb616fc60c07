"""Distribution shifts for testing the experts: noise, blur, small objects, overlap and unseen colors.

Every image comes with exact ground truth. A shift either changes how a scene is drawn, or changes the scene.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from vlrm_ray.scenes.render import RenderedScene, Rgb, paint
from vlrm_ray.scenes.world import COLORS, SHAPES, SIGN, Scene, SceneObject, World

FRESH_WORLD = World(bias=0.0, held_out=0.15, shape_counts=(0.1, 0.2, 0.3, 0.3, 0.1))
"""The in-distribution case: like the experts' training scenes, with more of the `HELD_OUT` combinations."""
_CROWDED = replace(FRESH_WORLD, shape_counts=(0, 0.3, 0.4, 0.2, 0.1))
IN_DISTRIBUTION = "in_distribution"
UNSEEN_COLORS: dict[str, Rgb] = {
    "pink": (250, 120, 185),
    "cyan": (25, 190, 205),
    "brown": (120, 75, 35),
    "black": (25, 25, 28),
}
"""RGB values of colors that no training scene has."""


@dataclass(frozen=True)
class LabelledImage:
    """An image with the ground truth of its scene; `rendered.boxes` are in the order of `scene.objects`."""

    scene: Scene
    rendered: RenderedScene


def labelled_image(kind: str, seed: int) -> LabelledImage:
    """The image of a seed, either `IN_DISTRIBUTION` or under the shift of that name in `SHIFTS`."""
    scene, rng = FRESH_WORLD.sample(seed), random.Random(f"{kind}-{seed}")
    return LabelledImage(scene, paint(scene)) if kind == IN_DISTRIBUTION else SHIFTS[kind](scene, rng)


def _noisy(scene: Scene, rng: random.Random) -> LabelledImage:
    """Gaussian noise with a standard deviation of 15 to 60 of 255 gray levels."""
    rendered = paint(scene)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(np.asarray(rendered.image).shape)
    noisy = np.asarray(rendered.image) + noise * rng.uniform(15, 60)
    return LabelledImage(scene, replace(rendered, image=Image.fromarray(noisy.clip(0, 255).astype(np.uint8))))


def _blurred(scene: Scene, rng: random.Random) -> LabelledImage:
    """Gaussian blur with a radius of 1 to 4 pixels."""
    rendered = paint(scene)
    blurred = rendered.image.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 4.0)))
    return LabelledImage(scene, replace(rendered, image=blurred))


def _small(scene: Scene, rng: random.Random) -> LabelledImage:
    """Shapes with a radius of 0.08 to 0.18 of a cell, instead of 0.26 to 0.4."""
    scene = Scene(scene.seed, tuple(replace(o, size=rng.uniform(0.08, 0.18)) for o in scene.objects))
    return LabelledImage(scene, paint(scene))


def _overlapping(scene: Scene, rng: random.Random) -> LabelledImage:
    """Move half of the shapes next to another one, so that they partly cover it."""
    objects = list(_CROWDED.sample(scene.seed).objects)
    shapes = [i for i, o in enumerate(objects) if o.shape != SIGN]
    for moved in rng.sample(shapes, len(shapes) // 2):
        target = objects[rng.choice([i for i in shapes if i != moved])]
        objects[moved] = _move_onto(objects[moved], target, rng)
    overlapping = Scene(scene.seed, tuple(objects))
    return LabelledImage(overlapping, paint(overlapping))


def _move_onto(obj: SceneObject, target: SceneObject, rng: random.Random) -> SceneObject:
    """Place the object so that it overlaps the target, on the side of the image's center so that it stays inside."""
    across, down = rng.choice(((1 - target.col or rng.choice((1, -1)), 0), (0, 1 - target.row or rng.choice((1, -1)))))
    distance = rng.uniform(0.5, 0.9) * (obj.size + target.size)
    return replace(
        obj, row=target.row, col=target.col, dx=target.dx + across * distance, dy=target.dy + down * distance
    )


def _unseen_pairs(scene: Scene, rng: random.Random) -> LabelledImage:
    """Give each shape one of the `UNSEEN_COLORS` with probability 0.7."""
    scene = Scene(
        scene.seed,
        tuple(
            replace(o, color=rng.choice(tuple(UNSEEN_COLORS))) if o.shape in SHAPES and rng.random() < 0.7 else o
            for o in scene.objects
        ),
    )
    return LabelledImage(scene, paint(scene, COLORS | UNSEEN_COLORS))


SHIFTS: dict[str, Callable[[Scene, random.Random], LabelledImage]] = {
    "noise": _noisy,
    "blur": _blurred,
    "small_objects": _small,
    "overlap": _overlapping,
    "unseen_pairs": _unseen_pairs,
}
"""Makes the shifted image of a scene, by the shift's name."""
