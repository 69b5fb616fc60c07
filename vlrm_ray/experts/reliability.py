"""Which parts of the evidence are reliable, and how many objects of a kind an image has at least and at most.

`AssessedEvidence` sorts the detections of one image:

- certain: the calibrated probability is at least `MIN_PROBABILITY` (or the table of its class supports the score), size and
  shape are as in the calibration, no other class was detected in the same place, no better box of the class covers it, and the
  image is not too small. Without a calibration only the last three conditions apply.
- uncertain: all others, and all `faint` ones. Each may be an object of one of several classes, or of any class.

`AssessedEvidence.count_bounds` turns this into bounds. The lower bound counts the certain objects. The upper bound
adds the uncertain ones; it is infinite if the detector may have missed objects: low recall, an image unlike those of the
calibration, or too many objects.

A noun that is no class of the detector is related to the classes by `hierarchy.py`. Objects of narrower classes count as
certain (a car is a vehicle); the upper bound is then finite only if the classes cover all kinds of the noun. Objects of a
broader class are possible ones (a person may be a man), and the broader class's recall bounds how many were missed.
Detectors scale an image to a fixed size: in a very large one, visible objects may be too small; see `Calibrations.usable_sides`.
"""

import math
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from vlrm_ray.experts.calibration import DetectorCalibration, Range, ReaderCalibration
from vlrm_ray.experts.detection import SAME_OBJECT_IOU
from vlrm_ray.experts.evidence import PALETTE, contains_word
from vlrm_ray.experts.geometry import intersection_over_smaller, iou
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.measured_judge import MAY_MISS, MeasuredJudge, knows_only
from vlrm_ray.types import Detection, Evidence, Finding, Noun, Word

MIN_PROBABILITY = 0.95
"""An expert's answer is certain from this calibrated probability on."""
MAX_CONFUSION = 0.1
"""A low-score box may be of any class if its probability of belonging to another class is above this."""
MIN_RECALL = 0.97
"""Absence is claimed only for classes whose recall, by its lower confidence bound, is at least this."""
NEAR_DUPLICATE = 0.7
"""Two boxes of a class may be one object if the smaller is covered by at least this share."""
MAX_SHRINK = 1.25
"""Absence is claimed in images up to this much larger than those of the calibration: their objects shrink by as much.
Of the shipped detector's objects, 98 % are found at the smallest calibrated size divided by 1.25, 39 % at half of it."""
MAX_SHRINK_UNCALIBRATED = 4
"""The same without a calibration, relative to the detector's input: an object of 32 pixels, which COCO counts as medium,
then covers the 8 pixels of one cell of a YOLO detector."""
MAX_ENLARGEMENT = 2
"""An image is too small if it is smaller by more than this than those of the calibration."""
MAX_THINNING = 2.5
"""An image is too thin if its shorter side, as a share of the longer one, is smaller by more than this."""
MIN_IMAGE_SIDE = 16
"""An image is too small if a side has fewer pixels: detectors see objects in the enlarged noise of such images. It is
too thin if a side covers fewer pixels of the detector's input."""
TOO_SMALL, TOO_LARGE, TOO_THIN = "image_too_small", "image_too_large_for_the_detector", "image_too_thin"
"""Reasons why the size of an image forbids claims."""
DETECTOR_UNCALIBRATED, READER_UNCALIBRATED = "detector_uncalibrated", "reader_uncalibrated"
"""Reasons why an expert may not decide a claim; see `experts.uncalibrated`."""
CLASS_UNCALIBRATED = "class_uncalibrated"
"""Reason of a claim about a class that the detector reports, and that the labelled images of its calibration do not show."""
TEXT_CARRIERS = frozenset({"sign", "stop sign", "street sign", "billboard", "poster", "banner", "label"})
"""Classes that carry text: their absence is not claimed if OCR read a word outside all detected objects."""


@dataclass(frozen=True)
class Calibrations:
    """Calibrations of the vision experts.

    Attributes:
        detector: calibration of the detector; None if none is stored.
        reader: calibration of the OCR reader; None if none is stored.
        exhaustive: classes whose recall is assumed to suffice, without a calibration (`experts.detector.exhaustive`).
        input_side: side in pixels that the detector scales an image's longer side to; 0 if it is not known.
        uncalibrated: whether experts and classes without a calibration count, by raw scores (`experts.uncalibrated: allow`).
        classes: classes that an open-vocabulary detector looks for (`experts.detector.classes`).
    """

    detector: DetectorCalibration | None = None
    reader: ReaderCalibration | None = None
    exhaustive: frozenset[str] = frozenset()
    input_side: int = 0
    uncalibrated: bool = True
    classes: frozenset[str] = frozenset()

    @property
    def trusts_detector(self) -> bool:
        """Whether the detector may decide a claim."""
        return self.uncalibrated or self.detector is not None

    @property
    def trusts_reader(self) -> bool:
        """Whether the OCR reader may decide a claim."""
        return self.uncalibrated or self.reader is not None

    def recall(self, name: str) -> float:
        """Lower bound of the detector's recall for a class; 0 for a class that was not calibrated."""
        if name in self.exhaustive:
            return MIN_RECALL
        known = self.detector.classes.get(name) if self.detector else None
        return (known.found or known.recall).lower_bound if known else 0.0

    def bounding_classes(self, noun: str) -> frozenset[str]:
        """Classes that together include each object that a noun describes, and that the detector hardly ever misses.

        Returns the noun itself or a synonym if it is such a class, else the broader class with the best recall ("person" for "man"),
        else the narrower classes if they cover all kinds of the noun; empty if there are none.
        """
        if self.recall(noun) >= MIN_RECALL:
            return frozenset({noun})
        reliable, nouns = self._reliable_classes, noun_hierarchy()
        same = [name for name in reliable if nouns.is_same(noun, name)]
        broader = same or [name for name in reliable if nouns.may_show(name, noun)]
        if broader:
            return frozenset({max(broader, key=lambda name: (self.recall(name), name))})
        narrower = frozenset(name for name in reliable if nouns.includes(noun, name))
        return narrower if nouns.is_covered(noun, narrower) else frozenset()

    @cached_property
    def _reliable_classes(self) -> frozenset[str]:
        known = self.exhaustive | frozenset(self.detector.classes if self.detector else ())
        return frozenset(name for name in known if self.recall(name) >= MIN_RECALL)

    @property
    def usable_sides(self) -> Range:
        """Smallest and largest longer side in pixels of an image in which recall is as it was calibrated."""
        if self.detector is None:
            return 0.0, MAX_SHRINK_UNCALIBRATED * self.input_side or math.inf
        low, high = self.detector.image_sides or (self.input_side, self.input_side)
        return low / MAX_ENLARGEMENT, MAX_SHRINK * high or math.inf

    @property
    def min_shape(self) -> float:
        """Smallest shorter side of an image, as a share of the longer one, in which recall is as it was calibrated."""
        if self.detector:
            return self.detector.image_shapes[0] / MAX_THINNING
        return MIN_IMAGE_SIDE / self.input_side if self.input_side else 0.0

    def detection_probability(self, detection: Detection) -> float:
        """Probability that a detection has the right class; its score without a calibration."""
        return self.detector.scores.probability(detection.score) if self.detector else detection.score

    def has_reliable_score(self, detection: Detection) -> bool:
        """Whether a box with this class and score is right with sufficient probability."""
        if self.detector is None:
            return True
        claims = self.detector.claims
        if claims is None:
            return self.detection_probability(detection) >= MIN_PROBABILITY
        table = claims.objects.get(detection.name)
        return table.supports(detection.score, claims.stated) if table else self.uncalibrated

    def has_measured(self, names: Set[str]) -> bool:
        """Whether all of some classes are in the tables of the detector's calibration, if it has tables."""
        claims = self.detector.claims if self.detector else None
        return claims is None or names <= claims.objects.keys()

    def word_probability(self, word: Word) -> float:
        """Probability that a word was read correctly; its score without a calibration."""
        return self.reader.scores.probability(word.score) if self.reader else word.score

    @property
    def color_probability(self) -> float:
        """Probability that a named color is right; 1 without a calibration."""
        return self.detector.colors.smoothed if self.detector else 1.0


@dataclass(frozen=True)
class UncertainDetection:
    """A detection that may be wrong.

    Attributes:
        classes: the classes that it may belong to; None means any class, and possibly several objects.
        detection: the box.
    """

    classes: frozenset[str] | None
    detection: Detection


@dataclass(frozen=True)
class CountBounds:
    """Bounds on how many objects match a noun.

    Attributes:
        certain: indices of the certain objects in `Evidence.objects`; their number is the lower bound.
        most: upper bound; infinite if the detector may have missed objects.
        reason: why the bounds differ; "" if they are equal.
    """

    certain: tuple[int, ...]
    most: float
    reason: str = ""

    @property
    def least(self) -> int:
        """Lower bound."""
        return len(self.certain)


@dataclass
class AssessedEvidence:
    """Evidence of one image, with its detections sorted into certain and uncertain ones.

    Attributes:
        certain: probability of each certain object, by its index in `Evidence.objects`.
        uncertain: the other detections, faint ones included.
        size_problem: why the image's size forbids claims of absence; "" if it does not.
        in_distribution: whether the image's size and quality are in the range of the calibration images.
        distinct: number of detected objects without duplicates.
        findings: findings of the verifier so far, by `Claim.content`.
    """

    evidence: Evidence
    calibrations: Calibrations
    certain: dict[int, float] = field(default_factory=dict)
    uncertain: list[UncertainDetection] = field(default_factory=list)
    size_problem: str = ""
    in_distribution: bool = True
    distinct: int = 0
    findings: dict[tuple[Hashable, ...], Finding] = field(default_factory=dict)
    _bounds: dict[Noun, CountBounds] = field(default_factory=dict)
    _bounding_classes: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size_problem = self._size_problem()
        self.in_distribution = not self.size_problem and self._is_of_usual_quality()
        distinct = _without_duplicates(self.evidence.objects)
        self.distinct = len(distinct)
        for index in distinct:
            others = [self.evidence.objects[i] for i in distinct if i != index]
            uncertainty = self._uncertainty(self.evidence.objects[index], others)
            if uncertainty is None:
                self.certain[index] = self.calibrations.detection_probability(self.evidence.objects[index])
            else:
                self.uncertain.append(uncertainty)
        self.uncertain += [self._low_score(detection) for detection in self.evidence.faint]

    @cached_property
    def measured(self) -> MeasuredJudge:
        """Judge of the claims whose probability was measured."""
        detector, reader = self.calibrations.detector, self.calibrations.reader
        problem = ("crowd" if self._is_crowd else "") if self.in_distribution else self.unlike_calibration
        return MeasuredJudge(
            self.evidence,
            detector.claims if detector else None,
            reader.claims if reader else None,
            problem,
            self.size_problem == TOO_SMALL,
            frozenset() if self._all_text_is_on_objects else TEXT_CARRIERS,
        )

    @property
    def _is_crowd(self) -> bool:
        return self.calibrations.detector is not None and self.distinct > self.calibrations.detector.crowd

    def count_bounds(self, noun: Noun) -> CountBounds:
        """Bounds on how many objects match a noun with its attributes, such as "red circle"."""
        if noun not in self._bounds:
            self._bounds[noun] = self._count_bounds(noun)
        return self._bounds[noun]

    def recall(self, noun: Noun) -> float:
        """Lower bound of the detector's recall for what a noun describes; 0 if it is not known."""
        return min(self.calibrations.recall(name) for name in self._bounding(noun.name) or {noun.name})

    def _bounding(self, name: str) -> frozenset[str]:
        if name not in self._bounding_classes:
            self._bounding_classes[name] = self.calibrations.bounding_classes(name)
        return self._bounding_classes[name]

    def _count_bounds(self, noun: Noun) -> CountBounds:
        if not self.calibrations.trusts_detector:
            return CountBounds((), math.inf, DETECTOR_UNCALIBRATED)
        colors = tuple(a for a in noun.attributes if a in PALETTE)
        checkable = len(colors) == len(noun.attributes) <= 1
        nouns, certain, possible, broader = noun_hierarchy(), [], 0, ""
        for index in self.certain:
            detection = self.evidence.objects[index]
            if not nouns.includes(noun.name, detection.name):
                if self._may_be(noun.name, detection.name):
                    possible, broader = possible + 1, broader or detection.name
                continue
            # the middle of an object with text shows the text's color
            color = "" if any(contains_word(detection, word) for word in self.evidence.words) else detection.color
            if checkable and all(color == c for c in colors):
                certain.append(index)
            elif not checkable or not color:
                possible += 1
        uncertain = sum(
            u.classes is None or any(nouns.includes(noun.name, c) or self._may_be(noun.name, c) for c in u.classes)
            for u in self.uncertain
        )
        named = {u.detection.name for u in self.uncertain if nouns.includes(noun.name, u.detection.name)}
        unbounded = self._why_unbounded(noun.name)
        most = math.inf if unbounded else float(len(certain) + possible + uncertain)
        if broader and not uncertain and unbounded in ("", MAY_MISS):
            reason = knows_only(broader)
        elif named and unbounded == MAY_MISS:  # it has not missed it
            reason = "something_is_doubtful" if self.calibrations.has_measured(named) else CLASS_UNCALIBRATED
        else:
            reason = unbounded or ("something_is_doubtful" if possible + uncertain else "")
        return CountBounds(tuple(sorted(certain)), most, reason)

    def _may_be(self, noun: str, class_name: str) -> bool:
        """Whether a noun may describe an object of a class that it does not include: a "man" that is a "person"."""
        nouns = noun_hierarchy()
        if nouns.may_show(class_name, noun):
            return True
        bounding = self._bounding(noun) - {noun}
        return any(nouns.may_show(b, noun) and nouns.related(class_name, b) for b in bounding)

    def _why_unbounded(self, name: str) -> str:
        """Why the detector may have missed objects of a noun; "" if it would have detected them."""
        bounding = self._bounding(name)
        if not bounding:
            return MAY_MISS
        if not self.in_distribution:
            return self.unlike_calibration
        if not TEXT_CARRIERS.isdisjoint({name, *bounding}) and not self._all_text_is_on_objects:
            return "experts_disagree"
        if any(uncertainty.classes is None for uncertainty in self.uncertain):
            return "something_is_doubtful"
        return "crowd" if self._is_crowd else ""

    @property
    def _all_text_is_on_objects(self) -> bool:
        return all(any(contains_word(o, word) for o in self.evidence.objects) for word in self.evidence.words)

    @property
    def unlike_calibration(self) -> str:
        """Why absence is not claimed in an image that is not in distribution."""
        return self.size_problem or "image_unlike_calibration"

    def _size_problem(self) -> str:
        shorter, longer = sorted((self.evidence.width, self.evidence.height))
        low, high = self.calibrations.usable_sides
        if shorter < MIN_IMAGE_SIDE or longer < low:
            return TOO_SMALL
        if longer > high:
            return TOO_LARGE
        return TOO_THIN if shorter < self.calibrations.min_shape * longer else ""

    def _is_of_usual_quality(self) -> bool:
        known, quality = self.calibrations.detector, self.evidence.quality
        return known is None or (_within(quality.blur, known.blur) and quality.unexplained <= known.unexplained[1])

    def _uncertainty(self, detection: Detection, others: Sequence[Detection]) -> UncertainDetection | None:
        """The uncertainty of a detection; None if it is certain."""
        if self.size_problem == TOO_SMALL:
            return UncertainDetection(None, detection)
        if not self.calibrations.has_reliable_score(detection):
            return self._low_score(detection)
        if self._has_unusual_shape(detection):
            return UncertainDetection(None, detection)
        rivals = {o.name for o in others if iou(o.box, detection.box) >= SAME_OBJECT_IOU} | {detection.rival} - {""}
        if rivals:
            return UncertainDetection(frozenset(rivals | {detection.name}), detection)
        better = [o for o in others if o.name == detection.name and _rank(o) < _rank(detection)]
        if any(intersection_over_smaller(o.box, detection.box) >= NEAR_DUPLICATE for o in better):
            return UncertainDetection(frozenset({detection.name}), detection)
        return None

    def _has_unusual_shape(self, detection: Detection) -> bool:
        """Whether a box is outside the calibrated sizes or shapes, as for two objects in one box or half an object."""
        known = self.calibrations.detector
        if known is None or detection.name not in known.classes:
            return False
        longer, (x0, y0, x1, y1) = max(self.evidence.width, self.evidence.height), detection.box
        usual, (width, height) = known.classes[detection.name], (x1 - x0, y1 - y0)
        usual_sides = all(_within(side / longer, usual.sides) for side in (width, height))
        return not usual_sides or not _within(width / max(height, 1e-6), usual.aspect)

    def _low_score(self, detection: Detection) -> UncertainDetection:
        """Uncertainty of a box with a low score: its own class and its rival, or any class if often confused."""
        known = self.calibrations.detector
        any_class = known is not None and known.scores.confusion(detection.score) > MAX_CONFUSION
        classes = None if any_class else frozenset({detection.name, detection.rival} - {""})
        return UncertainDetection(classes, detection)


def _rank(detection: Detection) -> tuple[float, str, tuple[float, ...]]:
    """Sort key: descending score; name and box break ties."""
    return -detection.score, detection.name, detection.box


def _within(value: float, limits: Range) -> bool:
    """Whether a value lies in a range widened by 5 % of its length at each end."""
    slack = 0.05 * (limits[1] - limits[0])
    return limits[0] - slack <= value <= limits[1] + slack


def _without_duplicates(objects: Sequence[Detection]) -> list[int]:
    """Indices of the objects, one for each group of boxes of a class that overlap by `SAME_OBJECT_IOU`."""
    kept: list[int] = []
    for index in sorted(range(len(objects)), key=lambda i: _rank(objects[i])):
        detection = objects[index]
        if not any(
            objects[i].name == detection.name and iou(objects[i].box, detection.box) >= SAME_OBJECT_IOU for i in kept
        ):
            kept.append(index)
    return kept
