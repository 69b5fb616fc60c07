"""What the templates ask about a scene, and the elementary propositions that they embed in larger sentences.

The templates never state anything whose truth is arguable. A definite noun ("the circle") needs exactly one object of
that shape. Sentences about "shapes" need a scene without a sign. A color that could be confused with an unseen color
is not used beside it. Places are stated only of objects near the center of a grid cell.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

from vlrm_ray.experts.geometry import centre
from vlrm_ray.scenes.render import SIZE
from vlrm_ray.scenes.shifts import LabelledImage
from vlrm_ray.scenes.world import COLORS, GRID, SHAPES, SIGN, WORDS

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
_SIMILAR = {"pink": {"red", "purple"}, "cyan": {"blue", "green"}, "brown": {"orange", "red"}}
"""What an unseen color might be called: some of `COLORS`."""
_PER_KIND = 2
_CELL_MARGIN = 0.3
"""Greatest distance of a center from the center of its grid cell, as a fraction of the cell's side."""


@dataclass(frozen=True)
class Draft:
    """A sentence of known truth; `question` is the question that it answers, or empty."""

    true: bool
    text: str
    question: str = ""


Drafts = Iterator[Draft]
Template = Callable[["Facts"], Drafts]
"""Yields all sentences of one construction that a scene allows."""


def drafts(true: bool, *texts: str, question: str = "") -> Drafts:
    """Several wordings of one proposition; empty texts are left out."""
    return (Draft(true, text, question) for text in texts if text)


@dataclass(frozen=True)
class Thing:
    """An object of the scene.

    Attributes:
        shape: one of `SHAPES`, or "sign".
        color: color name.
        word: the word on a sign.
        x: horizontal center as a fraction of the image's side, 0 at the left.
        y: vertical center as a fraction of the image's side, 0 at the top.
    """

    shape: str
    color: str
    word: str
    x: float
    y: float

    @property
    def name(self) -> str:
        """Name in sentences: "red circle" or "sign"."""
        return SIGN if self.shape == SIGN else f"{self.color} {self.shape}"

    @property
    def cell(self) -> tuple[int, int] | None:
        """(row, column) on the grid, or None if the center is not near that of a cell."""
        row, col = int(self.y * GRID), int(self.x * GRID)
        distance = max(abs(self.y * GRID - row - 0.5), abs(self.x * GRID - col - 0.5))
        return (row, col) if distance < _CELL_MARGIN else None


@dataclass(frozen=True)
class Proposition:
    """An elementary proposition about a scene.

    Attributes:
        text: clause that states it: "there is a star".
        negation: clause that denies it: "there is no star".
        question: question about it: "is there a star".
        true: whether it is true.
    """

    text: str
    negation: str
    question: str
    true: bool


@dataclass(frozen=True)
class Facts:
    """The objects of a scene, and queries about them; `seed` is that of the sampled `propositions`."""

    things: tuple[Thing, ...]
    seed: int = 0

    @classmethod
    def of(cls, image: LabelledImage, seed: int) -> "Facts":
        """Facts of a labelled image, with the places of the drawn boxes."""
        labelled = zip(image.scene.objects, map(centre, image.rendered.boxes), strict=True)
        return cls(tuple(Thing(o.shape, o.color, o.word, x / SIZE, y / SIZE) for o, (x, y) in labelled), seed)

    @cached_property
    def shapes(self) -> tuple[Thing, ...]:
        """All objects except signs."""
        return tuple(t for t in self.things if t.shape != SIGN)

    @cached_property
    def word(self) -> str:
        """The word on the sign; empty without a sign."""
        return next((t.word for t in self.things if t.shape == SIGN), "")

    @cached_property
    def other_words(self) -> tuple[str, ...]:
        """Words that are not on the sign."""
        return tuple(w for w in WORDS if w != self.word)

    @cached_property
    def only_shapes(self) -> tuple[Thing, ...]:
        """All objects if none of them is a sign, else empty: what "the shapes" refers to without doubt."""
        return () if self.word else self.shapes

    @cached_property
    def present(self) -> tuple[str, ...]:
        """Shapes of which the scene has at least one."""
        return tuple(s for s in SHAPES if self.count(s))

    @cached_property
    def absent(self) -> tuple[str, ...]:
        """Shapes of which the scene has none."""
        return tuple(s for s in SHAPES if not self.count(s))

    @cached_property
    def plural(self) -> tuple[str, ...]:
        """Shapes of which the scene has at least two."""
        return tuple(s for s in SHAPES if self.count(s) >= 2)

    @cached_property
    def single(self) -> tuple[Thing, ...]:
        """The objects that "the circle" or "the square" refers to without doubt: the only ones of their shape."""
        return tuple(t for t in self.shapes if self.count(t.shape) == 1)

    @cached_property
    def named(self) -> tuple[Thing, ...]:
        """The objects that "the red circle" or "the sign" refers to without doubt."""
        return tuple(t for t in self.things if sum(o.name == t.name for o in self.things) == 1)

    @cached_property
    def pairs(self) -> tuple[tuple[Thing, Thing], ...]:
        """Ordered pairs of `single` objects."""
        return tuple(permutations(self.single, 2))

    @cached_property
    def colors(self) -> tuple[str, ...]:
        """The colors of the scene's shapes, and all of `COLORS` that cannot be confused with one of them."""
        present = dict.fromkeys(t.color for t in self.shapes)
        similar = set().union(*(_SIMILAR.get(color, set()) for color in present))
        return tuple(dict.fromkeys((*present, *(c for c in COLORS if c not in similar))))

    def count(self, shape: str, color: str = "") -> int:
        """Number of objects of a shape, and of a color if one is given."""
        return sum(t.shape == shape and color in ("", t.color) for t in self.things)

    def colored(self, color: str) -> int:
        """Number of shapes of a color."""
        return sum(t.color == color for t in self.shapes)

    def colors_of(self, shape: str) -> tuple[str, ...]:
        """The color of each object of a shape."""
        return tuple(t.color for t in self.shapes if t.shape == shape)

    @cached_property
    def colors_of_all(self) -> tuple[str, ...]:
        """The color of each shape."""
        return tuple(t.color for t in self.shapes)

    def other_colors(self, thing: Thing) -> tuple[str, ...]:
        """Colors that an object does not have."""
        return tuple(c for c in self.colors if c != thing.color)

    @cached_property
    def propositions(self) -> tuple[Proposition, ...]:
        """A sample of elementary propositions, with up to `_PER_KIND` true and false ones of each kind."""
        rng, chosen = random.Random(self.seed), []
        for kind in (self._existence(), self._colored_existence(), self._attributes(), self._counts(), self._texts()):
            propositions = list(kind)
            for true in (True, False):
                fitting = [p for p in propositions if p.true is true]
                chosen += rng.sample(fitting, min(_PER_KIND, len(fitting)))
        return tuple(chosen)

    def _existence(self) -> Iterator[Proposition]:
        for name in (*SHAPES, SIGN):
            yield _existence(name, self.count(name) > 0)

    def _colored_existence(self) -> Iterator[Proposition]:
        for shape in self.present:
            for color in self.colors:
                yield _existence(f"{color} {shape}", self.count(shape, color) > 0)

    def _attributes(self) -> Iterator[Proposition]:
        for thing in self.single:
            for color in self.colors:
                shape = f"the {thing.shape}"
                yield Proposition(
                    f"{shape} is {color}", f"{shape} is not {color}", f"is {shape} {color}", thing.color == color
                )

    def _counts(self) -> Iterator[Proposition]:
        """Only numbers above the right one are claimed wrongly: of three circles, "there are two" is arguable."""
        for shape in self.present:
            right = self.count(shape)
            for number in (right, right + 1, right + 2):
                phrase = f"{NUMBERS[number]} {shape}s"
                if number >= 2:
                    yield Proposition(
                        f"there are {phrase}", f"there are not {phrase}", f"are there {phrase}", number == right
                    )

    def _texts(self) -> Iterator[Proposition]:
        for word in (self.word, *self.other_words) if self.word else ():
            yield Proposition(
                f"the sign says {word}", f"the sign does not say {word}", f"does the sign say {word}", word == self.word
            )


def _existence(name: str, true: bool) -> Proposition:
    return Proposition(f"there is a {name}", f"there is no {name}", f"is there a {name}", true)
