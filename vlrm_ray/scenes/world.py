"""What a scene is made of, and how scenes are sampled: with correlations or without them."""

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
WORDS = ("STOP", "EXIT", "OPEN", "TAXI", "BUS", "CAFE", "ZOO", "PARK")
SIGN = "sign"
GRID = 3

# The prejudice of the pre-training world: what a shape is mostly painted, what a sign mostly says.
USUAL_COLOR = {"circle": "red", "square": "blue", "triangle": "green", "star": "yellow"}
USUAL_WORD = "STOP"
# Combinations that neither pre-training nor the rounds show: only ScenesBench's test split does.
HELD_OUT = frozenset({("circle", "green"), ("square", "orange"), ("triangle", "yellow"), ("star", "purple")})


@dataclass(frozen=True)
class Thing:
    """One object: a coloured shape, or a sign (`color` is then "white" and `word` is set)."""

    shape: str
    color: str
    row: int
    col: int
    size: float  # radius as a share of the cell's side
    dx: float  # jitter of the centre, as a share of the cell's side
    dy: float
    word: str = ""

    @property
    def name(self) -> str:
        """How the language calls it: "red circle" or "sign"."""
        return SIGN if self.shape == SIGN else f"{self.color} {self.shape}"

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column on the grid."""
        return self.row, self.col


@dataclass(frozen=True)
class Scene:
    """Ground truth of one picture, things in reading order."""

    seed: int
    things: tuple[Thing, ...]

    @property
    def shapes(self) -> tuple[Thing, ...]:
        """All things but signs."""
        return tuple(t for t in self.things if t.shape != SIGN)

    @property
    def sign(self) -> Thing | None:
        """The sign, if the scene has one."""
        return next((t for t in self.things if t.shape == SIGN), None)

    def count(self, shape: str, color: str | None = None) -> int:
        """How many things of a shape (and colour) there are."""
        return sum(t.shape == shape and color in (None, t.color) for t in self.things)


@dataclass(frozen=True)
class World:
    """A distribution of scenes.

    Attributes:
        bias: probability that a shape has its usual colour and that a sign says the usual word,
            before the rest is drawn uniformly; 0 is a world without correlations.
        held_out: None never shows a held-out combination, else the probability of drawing one.
        shape_counts: relative weights of having 1, 2, ... shapes.
        sign: probability of a sign.
    """

    bias: float = 0.0
    held_out: float | None = None
    shape_counts: Sequence[float] = (0.15, 0.35, 0.3, 0.2)
    sign: float = 0.5

    def sample(self, seed: int) -> Scene:
        """Draw the scene of a seed; the same seed gives the same scene."""
        rng = random.Random(f"scene-{seed}")
        count = rng.choices(range(1, len(self.shape_counts) + 1), self.shape_counts)[0]
        cells = rng.sample([(r, c) for r in range(GRID) for c in range(GRID)], count + 1)
        things = [self._shape(rng, *cell) for cell in cells[:count]]
        if rng.random() < self.sign:
            things.append(self._sign(rng, *cells[count]))
        return Scene(seed, tuple(sorted(things, key=lambda t: t.cell)))

    def _shape(self, rng: random.Random, row: int, col: int) -> Thing:
        if self.held_out is not None and rng.random() < self.held_out:
            shape, color = rng.choice(sorted(HELD_OUT))
        else:
            shape = rng.choice(SHAPES)
            allowed = [c for c in COLORS if (shape, c) not in HELD_OUT]
            color = USUAL_COLOR[shape] if rng.random() < self.bias else rng.choice(allowed)
        return Thing(shape, color, row, col, rng.uniform(0.26, 0.4), *_jitter(rng))

    def _sign(self, rng: random.Random, row: int, col: int) -> Thing:
        word = USUAL_WORD if rng.random() < self.bias else rng.choice(WORDS)
        return Thing(SIGN, "white", row, col, 0.45, *_jitter(rng), word=word)


def described_by_prior(scene: Scene, rng: random.Random, description_prior: float) -> Scene:
    """The scene as a careless captioner puts it: what lies to the left or right is named as it usually is.

    `description_prior` is the probability that a thing at the sides is not looked at: a shape then gets its usual
    colour, a sign the usual word.
    """
    careless = [t.col != GRID // 2 and rng.random() < description_prior for t in scene.things]
    return replace(scene, things=tuple(_usual(t) if c else t for t, c in zip(scene.things, careless, strict=True)))


def _usual(thing: Thing) -> Thing:
    return replace(thing, word=USUAL_WORD) if thing.shape == SIGN else replace(thing, color=USUAL_COLOR[thing.shape])


def _jitter(rng: random.Random) -> tuple[float, float]:
    return rng.uniform(-0.07, 0.07), rng.uniform(-0.07, 0.07)


PREJUDICED = World(bias=0.95)
"""Where the tiny VLM grew up."""
OPEN = World(bias=0.0)
"""No correlations: where the tiny VLM learned to see, and where the policy is put to the test."""
ROUNDS = World(bias=0.0, sign=0.8)
"""Where the rounds take their prompts from: as `OPEN`, with more to read, which the tiny VLM does worst."""
TEST = World(bias=0.0, held_out=0.15)
"""ScenesBench: as `OPEN`, and sometimes a combination that nobody was trained on."""
