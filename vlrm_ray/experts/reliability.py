"""What of the evidence can be relied on, and how many of a kind there are at least and at most.

An object counts if its calibrated probability is high and nothing speaks against it; a doubtful
one counts as "perhaps", of its own class or of any. Where the image or the class is not what the
detector was calibrated on, more may be there than it saw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from vlrm_ray.experts.calibration import DetectorCalibration, Range, ReaderCalibration
from vlrm_ray.experts.detection import SAME_PLACE
from vlrm_ray.experts.evidence import PALETTE, holds
from vlrm_ray.experts.geometry import covered, iou
from vlrm_ray.types import Detection, Evidence, Noun, Word

CERTAIN = 0.95
"""Smallest calibrated probability at which an answer of an expert is relied on."""
CONFUSABLE = 0.1
"""From this probability of being on an object of another class on, a doubtful box could be anything."""
RECALL = 0.97
"""Absence is claimed for classes whose recall is at least this, by the lower end of its interval."""
CROWD = 8
"""From this many objects of a kind on, counting is left open."""
NEAR_DUPLICATE = 0.7
"""Two boxes of a class of which the smaller is covered by this share may be one object."""
TEXT_CARRIERS = frozenset({"sign", "stop sign", "street sign", "billboard", "poster", "banner", "label"})
"""What a read word speaks for: such a thing is not absent while a word lies outside all objects."""


@dataclass(frozen=True)
class Calibrations:
    """What the verifier knows of its experts; a calibration is None where none was stored.

    Attributes:
        exhaustive: classes of which absence may be claimed without a calibration saying so.
    """

    objects: DetectorCalibration | None = None
    words: ReaderCalibration | None = None
    exhaustive: frozenset[str] = frozenset()

    def recall(self, name: str) -> float:
        """Lower end of a class's recall; 0 for a class nobody vouches for."""
        if name in self.exhaustive:
            return RECALL
        known = self.objects.classes.get(name) if self.objects else None
        return known.recall.lower if known else 0.0

    def is_object(self, seen: Detection) -> float:
        """Probability that a box has the right class."""
        return self.objects.scores.probability(seen.score) if self.objects else seen.score

    def is_word(self, word: Word) -> float:
        """Probability that a word was read rightly."""
        return self.words.scores.probability(word.score) if self.words else word.score

    @property
    def color(self) -> float:
        """Probability that a named colour is right."""
        return self.objects.colors.smoothed if self.objects else 1.0


@dataclass(frozen=True)
class UncertainDetection:
    """A box that may be an object of one of some classes; of any class, and even several objects, if None."""

    names: frozenset[str] | None
    seen: Detection

    def may_be(self, name: str) -> bool:
        """Whether it could be of a class."""
        return self.names is None or name in self.names


@dataclass(frozen=True)
class Count:
    """At least the objects in `certain`, at most `most` (infinite where more may have been missed)."""

    certain: tuple[int, ...]
    most: float
    why: str = ""

    @property
    def least(self) -> int:
        """How many there are for certain."""
        return len(self.certain)


@dataclass
class AssessedEvidence:
    """One image's evidence with what of it is sure and what is doubtful.

    Attributes:
        sure: the objects that count, by index, each with its probability.
        familiar: whether the image is like those of the calibration.
        distinct: objects, those reported twice counted once.
    """

    evidence: Evidence
    calibrations: Calibrations
    certain: dict[int, float] = field(default_factory=dict)
    uncertain: list[UncertainDetection] = field(default_factory=list)
    in_distribution: bool = True
    distinct: int = 0
    _counts: dict[Noun, Count] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.in_distribution = self._is_in_distribution()
        distinct = _distinct(self.evidence.objects)
        self.distinct = len(distinct)
        for index in distinct:
            others = [self.evidence.objects[i] for i in distinct if i != index]
            uncertainty = self._uncertainty(self.evidence.objects[index], others)
            if uncertainty is None:
                self.certain[index] = self.calibrations.is_object(self.evidence.objects[index])
            else:
                self.uncertain.append(uncertainty)
        self.uncertain += [self._faint(seen) for seen in self.evidence.faint]

    def count(self, noun: Noun) -> Count:
        """How many things a noun with its attributes means, at least and at most."""
        if noun not in self._counts:
            self._counts[noun] = self._count(noun)
        return self._counts[noun]

    def _count(self, noun: Noun) -> Count:
        colors = tuple(a for a in noun.attributes if a in PALETTE)
        checkable = len(colors) == len(noun.attributes) <= 1
        certain, maybe = [], 0
        for index in self.certain:
            seen = self.evidence.objects[index]
            if seen.name != noun.name:
                continue
            color = "" if any(holds(seen, word) for word in self.evidence.words) else seen.color  # its middle is ink
            if checkable and all(color == c for c in colors):
                certain.append(index)
            elif not checkable or not color:
                maybe += 1
        maybe += sum(uncertainty.may_be(noun.name) for uncertainty in self.uncertain)
        why = self._why_open(noun.name)
        most = math.inf if why else float(len(certain) + maybe)
        return Count(tuple(sorted(certain)), most, why or ("something_is_doubtful" if maybe else ""))

    def _why_open(self, name: str) -> str:
        """Why more of a class may be there than the detector saw; "" where it would have seen them."""
        if self.calibrations.recall(name) < RECALL:
            return "detector_may_miss_it"
        if not self.in_distribution:
            return "image_unlike_calibration"
        if name in TEXT_CARRIERS and any(not self._carried(word) for word in self.evidence.words):
            return "experts_disagree"
        if any(uncertainty.names is None for uncertainty in self.uncertain):
            return "something_is_doubtful"
        limit = self.calibrations.objects.crowd if self.calibrations.objects else math.inf
        return "crowd" if self.distinct > limit else ""

    def _carried(self, word: Word) -> bool:
        return any(holds(o, word) for o in self.evidence.objects)

    def _is_in_distribution(self) -> bool:
        known, quality = self.calibrations.objects, self.evidence.quality
        return known is None or (_within(quality.blur, known.blur) and quality.unexplained <= known.unexplained[1])

    def _uncertainty(self, seen: Detection, others: Sequence[Detection]) -> UncertainDetection | None:
        if self.calibrations.objects and self.calibrations.is_object(seen) < CERTAIN:
            return self._faint(seen)
        if self._has_unusual_shape(seen):
            return UncertainDetection(None, seen)
        rivals = {o.name for o in others if iou(o.box, seen.box) >= SAME_PLACE} | {seen.rival} - {""}
        if rivals:
            return UncertainDetection(frozenset(rivals | {seen.name}), seen)
        same = [o for o in others if o.name == seen.name and _rank(o) < _rank(seen)]
        if any(covered(o.box, seen.box) >= NEAR_DUPLICATE for o in same):
            return UncertainDetection(frozenset({seen.name}), seen)
        return None

    def _has_unusual_shape(self, seen: Detection) -> bool:
        """Whether a box's size or form is none that the calibration has met: two objects in one box, half an object."""
        known = self.calibrations.objects
        if known is None or seen.name not in known.classes:
            return False
        longer, (x0, y0, x1, y1) = max(self.evidence.width, self.evidence.height), seen.box
        usual, (width, height) = known.classes[seen.name], (x1 - x0, y1 - y0)
        known_sides = all(_within(side / longer, usual.sides) for side in (width, height))
        return not known_sides or not _within(width / max(height, 1e-6), usual.aspect)

    def _faint(self, seen: Detection) -> UncertainDetection:
        scores = self.calibrations.objects.scores if self.calibrations.objects else None
        anything = scores is not None and scores.confusion(seen.score) > CONFUSABLE
        return UncertainDetection(None if anything else frozenset({seen.name, seen.rival} - {""}), seen)


def _rank(seen: Detection) -> tuple[float, str, tuple[float, ...]]:
    return -seen.score, seen.name, seen.box


def _within(value: float, limits: Range) -> bool:
    slack = 0.05 * (limits[1] - limits[0])
    return limits[0] - slack <= value <= limits[1] + slack


def _distinct(objects: Sequence[Detection]) -> list[int]:
    """Indices of the objects without repeats: boxes of one class in one place are one object."""
    kept: list[int] = []
    for index in sorted(range(len(objects)), key=lambda i: _rank(objects[i])):
        seen = objects[index]
        if not any(objects[i].name == seen.name and iou(objects[i].box, seen.box) >= SAME_PLACE for i in kept):
            kept.append(index)
    return kept
