"""Scenes and the distributions that they are sampled from, with or without correlations between attributes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

SHAPES = ("circle", "square", "triangle", "star")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 200),
    "yellow": (245, 215, 30),
    "purple": (140, 50, 175),
    "orange": (255, 140, 0),
}
"""RGB values by color name."""
WORDS = ("STOP", "EXIT", "OPEN", "TAXI", "BUS", "CAFE", "ZOO", "PARK")
SIGN = "sign"
GRID = 3
"""A scene is a grid of GRID x GRID cells with at most one object in each."""

PRIOR_COLOR = {"circle": "red", "square": "blue", "triangle": "green", "star": "yellow"}
"""The language prior that the tiny VLM learns in pre-training: the most frequent color of each shape."""
PRIOR_WORD = "STOP"
"""The most frequent word on signs in pre-training."""
HELD_OUT = frozenset({("circle", "green"), ("square", "orange"), ("triangle", "yellow"), ("star", "purple")})
"""(shape, color) combinations that no scene of the pre-training or of the rounds has; recolored images may show them."""


@dataclass(frozen=True)
class SceneObject:
    """One object: a colored shape, or a sign (`color` is then "white" and `word` is set).

    Attributes:
        shape: one of `SHAPES`, or `SIGN`.
        color: color name.
        row: grid row, 0 at the top.
        col: grid column, 0 at the left.
        size: radius as a fraction of the cell's side.
        dx: horizontal offset of the center from the cell's center, as a fraction of the cell's side.
        dy: vertical offset, likewise.
        word: the word on a sign.
    """

    shape: str
    color: str
    row: int
    col: int
    size: float
    dx: float
    dy: float
    word: str = ""

    @property
    def name(self) -> str:
        """Name in questions and answers: "red circle" or "sign"."""
        return SIGN if self.shape == SIGN else f"{self.color} {self.shape}"

    @property
    def cell(self) -> tuple[int, int]:
        """(row, column) on the grid."""
        return self.row, self.col


@dataclass(frozen=True)
class Scene:
    """Ground truth of one image; the objects are in reading order."""

    seed: int
    objects: tuple[SceneObject, ...]

    @property
    def shapes(self) -> tuple[SceneObject, ...]:
        """All objects except signs."""
        return tuple(o for o in self.objects if o.shape != SIGN)

    @property
    def sign(self) -> SceneObject | None:
        """The sign, or None if the scene has none."""
        return next((o for o in self.objects if o.shape == SIGN), None)

    def count(self, shape: str, color: str | None = None) -> int:
        """Number of objects of a shape, and of a color if one is given."""
        return sum(o.shape == shape and color in (None, o.color) for o in self.objects)


@dataclass(frozen=True)
class World:
    """A distribution of scenes.

    Attributes:
        bias: probability that a shape gets its `PRIOR_COLOR`, and a sign the `PRIOR_WORD`. Otherwise the value is
            drawn uniformly. 0 gives a world without correlations.
        held_out: probability that a shape is one of the `HELD_OUT` combinations; None never draws one.
        shape_counts: relative weights of having 1, 2, ... shapes.
        sign: probability of a sign.
        alike: probability that a shape is of the first one's kind; otherwise its kind is drawn uniformly.
    """

    bias: float = 0.0
    held_out: float | None = None
    shape_counts: Sequence[float] = (0.15, 0.35, 0.3, 0.2)
    sign: float = 0.5
    alike: float = 0.0

    def sample(self, seed: int) -> Scene:
        """Draw the scene of a seed. The same seed always gives the same scene."""
        rng = random.Random(f"scene-{seed}")
        count = rng.choices(range(1, len(self.shape_counts) + 1), self.shape_counts)[0]
        cells = rng.sample([(r, c) for r in range(GRID) for c in range(GRID)], count + 1)
        objects: list[SceneObject] = []
        for cell in cells[:count]:
            alike = bool(objects) and self.alike > 0 and rng.random() < self.alike
            objects.append(self._shape(rng, *cell, objects[0].shape if alike else None))
        if rng.random() < self.sign:
            objects.append(self._sign(rng, *cells[count]))
        return Scene(seed, tuple(sorted(objects, key=lambda o: o.cell)))

    def _shape(self, rng: random.Random, row: int, col: int, kind: str | None) -> SceneObject:
        if self.held_out is not None and rng.random() < self.held_out:
            shape, color = rng.choice(sorted(HELD_OUT))
        else:
            shape = kind or rng.choice(SHAPES)
            allowed = [c for c in COLORS if (shape, c) not in HELD_OUT]
            color = PRIOR_COLOR[shape] if rng.random() < self.bias else rng.choice(allowed)
        return SceneObject(shape, color, row, col, rng.uniform(0.26, 0.4), *_jitter(rng))

    def _sign(self, rng: random.Random, row: int, col: int) -> SceneObject:
        word = PRIOR_WORD if rng.random() < self.bias else rng.choice(WORDS)
        return SceneObject(SIGN, "white", row, col, 0.45, *_jitter(rng), word=word)


def described_by_prior(scene: Scene, rng: random.Random, description_prior: float) -> Scene:
    """Replace attributes of some objects by those of the prior, as a captioner with a learned bias would.

    Only objects outside the middle column are changed: a shape gets its `PRIOR_COLOR`, a sign the `PRIOR_WORD`.

    Args:
        scene: the true scene.
        rng: source of random numbers.
        description_prior: probability that such an object is changed.
    """
    biased = [o.col != GRID // 2 and rng.random() < description_prior for o in scene.objects]
    return replace(scene, objects=tuple(_with_prior(o) if b else o for o, b in zip(scene.objects, biased, strict=True)))


def _with_prior(obj: SceneObject) -> SceneObject:
    return replace(obj, word=PRIOR_WORD) if obj.shape == SIGN else replace(obj, color=PRIOR_COLOR[obj.shape])


def _jitter(rng: random.Random) -> tuple[float, float]:
    return rng.uniform(-0.07, 0.07), rng.uniform(-0.07, 0.07)


BIASED_WORLD = World(bias=0.95)
"""Strongly correlated: the source of the image-free answers that teach the tiny VLM its prior."""
UNBIASED_WORLD = World(bias=0.0)
"""Without correlations: text-only critiques, the extractor's training and the quality reports use it."""
COUNTED_WORLD = World(alike=0.5)
"""Like `UNBIASED_WORLD`, with more shapes of one kind: the tiny VLM learns to count in it."""
ROUND_WORLD = World(bias=0.0, sign=0.8)
"""The prompts of the training rounds: as `UNBIASED_WORLD`, with more signs, since the tiny VLM is worst at reading."""
TEST_WORLD = World(bias=0.0, held_out=0.15)
"""ScenesBench: as `UNBIASED_WORLD`, with some of the `HELD_OUT` combinations."""
