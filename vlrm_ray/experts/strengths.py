"""Strength of the evidence for claims about objects, from 0 to 1; `claim_tables.py` turns it into a probability.

    object      the highest score of a box of the claimed class; 0 without a box
    count       the probability of the claimed number: each box shows an object with a measured probability, and each image
                hides some objects from the detector, whose number was measured
    relation    how clearly the relation holds for a pair of boxes, of the pair where it holds best
    attribute   the share of a box's object that the color describes, of the box where it is largest

Relations and colors are looked up in boxes of which other tables say whether they show the objects. These are models of the truth, and may be wrong by a constant measure: only their order matters, because the tables are
measured with the same strengths.

A noun is related to the detector's classes by `hierarchy.py`. A broader noun ("vehicle") takes the boxes of all its classes, a
narrower one ("man") those of the class that shows it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from vlrm_ray.experts.claim_tables import DetectorClaims
from vlrm_ray.experts.colors import COLORLESS, color_strength, region_of
from vlrm_ray.experts.detection import RIVAL_SCORE_RATIO
from vlrm_ray.experts.geometry import relation_margin
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.types import Detection, Evidence, Noun

MOST_COUNTED = 8
"""Numbers of this many objects or more are not verified."""
FOUND_GROUPS = 5
"""Numbers of found objects that `DetectorClaims.missed` tells apart: 0 to 3, and more."""
MAX_CAPPED = 0.02
"""Two numbers are not compared if one of them is `MOST_COUNTED` or more with a higher probability."""
SHOWN = 0.5
"""From this probability on a box counts as an object that a claim may be about."""
POSSIBLE = 0.1
"""A relation or color is contradicted only if no box with at least this probability has it."""
SIDES = ("left_of", "right_of", "above", "below")
"""Relations of an object to the image that state a side of it."""
IMAGE = "image"
"""The noun that stands for the whole image, as in "on the left of the image"."""
_MISSED_PRIOR = (0.99, 0.01)
"""Added to the measured numbers of images with no and with one missed object, so that none is certain because it never occurred."""
_STEEPNESS = 1.5
"""Of the logistic curve that turns a relation's margin into a strength."""


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "more": lambda a, b: a > b,
    "fewer": lambda a, b: a < b,
    "as_many": lambda a, b: a == b,
}
"""Comparisons of two numbers, as in `Claim.value`."""


@dataclass(frozen=True)
class ClassesOf:
    """Classes of the detector that a noun means.

    Attributes:
        names: the classes whose boxes count.
        kind: `same` for a class or its synonym, `broader` for a noun that includes the classes, `narrower` for a noun that describes
            some of a class's objects only, `unknown` if there are none.
        covered: whether there are no other kinds of the noun.
    """

    names: frozenset[str]
    kind: Literal["same", "broader", "narrower", "unknown"]
    covered: bool = True


def classes_of(noun: str, known: Iterable[str]) -> ClassesOf:
    """The known classes of a detector that a noun means."""
    nouns, known = noun_hierarchy(), sorted(known)
    same = frozenset(name for name in known if nouns.is_same(noun, name))
    if same:
        return ClassesOf(same, "same")
    narrower = frozenset(name for name in known if nouns.includes(noun, name))
    if narrower:
        return ClassesOf(narrower, "broader", nouns.is_covered(noun, narrower))
    broader = [name for name in known if nouns.may_show(name, noun)]
    return ClassesOf(frozenset(broader[:1]), "narrower") if broader else ClassesOf(frozenset(), "unknown")


@dataclass(frozen=True)
class Box:
    """A box that may show an object of a noun.

    Attributes:
        detection: the box.
        score: its score for the noun's class; for a class that is only its rival, the least score that a rival has.
        probability: probability that it shows one object of the class.
        index: index in `Evidence.objects`; None for a faint box.
    """

    detection: Detection
    score: float
    probability: float
    index: int | None


@dataclass
class Strengths:
    """Strengths of the evidence of one image for claims about objects.

    Attributes:
        evidence: the evidence.
        known: the measured probabilities of boxes and missed objects.
    """

    evidence: Evidence
    known: DetectorClaims
    _classes: dict[str, ClassesOf] = field(default_factory=dict)
    _boxes: dict[Noun, Sequence[Box]] = field(default_factory=dict)

    def classes(self, noun: str) -> ClassesOf:
        """The measured classes that a noun means."""
        if noun not in self._classes:
            self._classes[noun] = classes_of(noun, self.known.images)
        return self._classes[noun]

    def boxes(self, noun: Noun) -> Sequence[Box]:
        """Boxes that may show an object of the noun; a color among its attributes lowers their probability."""
        if noun not in self._boxes:
            self._boxes[noun] = tuple(self._boxes_of(noun))
        return self._boxes[noun]

    def _boxes_of(self, noun: Noun) -> Iterator[Box]:
        names = self.classes(noun.name).names
        for detection, index in self._all:
            if detection.name in names:
                score = detection.score
            elif detection.rival in names:
                score = RIVAL_SCORE_RATIO * detection.score
            else:
                continue
            probability = self.known.boxes.probability(score) if score else 0.0
            for color in noun.attributes:
                probability *= self.known.colors.probability(color_of(detection, color))
            yield Box(detection, score, probability, index)

    def object(self, noun: str) -> tuple[float, bool]:
        """Highest score of a box of the noun, and whether a related class has a box with a higher one."""
        score = max((box.score for box in self.boxes(Noun(noun))), default=0.0)
        names, nouns = self.classes(noun).names, noun_hierarchy()
        better = {d.name for d, _ in self._all if d.score > score} - names
        return score, any(nouns.related(rival, name) for rival in better for name in names)

    def numbers(self, noun: Noun) -> list[float]:
        """Probability of each number of objects from 0 to `MOST_COUNTED`; the last one is that of all higher numbers."""
        shown = [box.probability for box in self.boxes(noun)]
        numbers = _convolved(_number_of(shown), self._missed(sum(shown)))
        return numbers + [0.0] * (MOST_COUNTED + 1 - len(numbers))

    def comparison(self, name: str, subject: Noun, other: Noun) -> float | None:
        """Probability of a comparison of two numbers; None if one of them may be too high to be known."""
        a, b = self.numbers(subject), self.numbers(other)
        if max(a[MOST_COUNTED], b[MOST_COUNTED]) > MAX_CAPPED:
            return None
        return sum(x * y for i, x in enumerate(a) for j, y in enumerate(b) if COMPARISONS[name](i, j))

    def relation(self, name: str, subjects: Sequence[Box], others: Sequence[Box]) -> float | None:
        """How clearly a relation holds for the pair of boxes where it holds best; None without a pair, or if it is unknown.

        Pairs are not taken as independent chances: where a relation fails for thirty pairs, it fails.
        """
        size = self.evidence.width, self.evidence.height
        margins = [
            relation_margin(name, a.detection.box, b.detection.box, *size)
            for a in subjects
            for b in others
            if a.detection is not b.detection
        ]
        known = [margin for margin in margins if margin is not None]
        return 1 / (1 + math.exp(-_STEEPNESS * max(known))) if known else None

    def whole_image(self) -> Box:
        """The image as a box, for places in it: what is left of its middle is on its left."""
        box = (0.0, 0.0, float(self.evidence.width), float(self.evidence.height))
        return Box(Detection(IMAGE, box, 1.0), 1.0, 1.0, None)

    def may_have_color(self, noun: str, word: str) -> bool:
        """Whether a word is a color that objects of a noun may have by their pixels."""
        return region_of(word) is not None and COLORLESS.isdisjoint(self.classes(noun).names)

    def colors_known(self, noun: Noun) -> bool:
        """Whether the attributes of a noun are colors that are measured, and all boxes that show it have been looked at for them."""
        if not noun.attributes:
            return True
        shown = [box for box in self.boxes(Noun(noun.name)) if box.probability >= SHOWN]
        words = all(self.may_have_color(noun.name, word) for word in noun.attributes)
        return words and self.known.colors.measured and all(box.detection.shades for box in shown)

    def color(self, boxes: Iterable[Box], word: str) -> float | None:
        """Largest share of an object that a color word describes; None if the colors of a box were not measured, or without boxes."""
        shares = [color_strength(word, box.detection.shades) if box.detection.shades else None for box in boxes]
        known = [share for share in shares if share is not None]
        return max(known) if shares and len(known) == len(shares) else None

    def possible(self, noun: Noun) -> list[Box]:
        """The boxes that may show an object of the noun."""
        return [box for box in self.boxes(noun) if box.probability >= POSSIBLE]

    def shown(self, noun: Noun) -> tuple[int, ...]:
        """Indices of the detected objects that show an object of the noun."""
        return tuple(b.index for b in self.boxes(noun) if b.index is not None and b.probability >= SHOWN)

    def strongest(self, noun: Noun) -> tuple[int, ...]:
        """Index of the detected object with the highest score for the noun, if there is one."""
        seen = [box for box in self.boxes(noun) if box.index is not None]
        return tuple(box.index for box in sorted(seen, key=lambda box: -box.score)[:1] if box.index is not None)

    def _missed(self, found: float) -> Sequence[float]:
        histograms = self.known.missed
        counts = histograms[found_group(found)] if histograms else ()
        total = sum(counts) + sum(_MISSED_PRIOR)
        return [(count + prior) / total for count, prior in zip_longest(counts, _MISSED_PRIOR, fillvalue=0.0)]

    @cached_property
    def _all(self) -> list[tuple[Detection, int | None]]:
        objects: list[tuple[Detection, int | None]] = [(d, i) for i, d in enumerate(self.evidence.objects)]
        return objects + [(d, None) for d in self.evidence.faint]


def color_of(detection: Detection, color: str) -> float:
    """Strength of a color of a box; 0.5 if its colors were not measured or the color is unknown."""
    strength = color_strength(color, detection.shades) if detection.shades else None
    return 0.5 if strength is None else strength


def found_group(found: float) -> int:
    """Index of the histogram in `DetectorClaims.missed` for an expected number of found objects."""
    return min(FOUND_GROUPS - 1, round(found))


def _number_of(probabilities: Iterable[float]) -> list[float]:
    """Distribution of the number of independent events (Poisson binomial), up to `MOST_COUNTED`."""
    numbers = [1.0]
    for p in probabilities:
        numbers = _convolved(numbers, [1 - p, p])
    return numbers


def _convolved(a: Sequence[float], b: Sequence[float]) -> list[float]:
    total = [0.0] * min(len(a) + len(b) - 1, MOST_COUNTED + 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            total[min(i + j, MOST_COUNTED)] += x * y
    return total
