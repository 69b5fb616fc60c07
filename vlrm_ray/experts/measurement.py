"""Measures the experts on images with ground truth; the results are calibrations (see `calibration.py`)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from vlrm_ray.experts.calibration import ClassCalibration, DetectorCalibration, Range, ReaderCalibration
from vlrm_ray.experts.claim_measurement import (
    MIN_IMAGES,
    LabelledEvidence,
    measure_object_claims,
)
from vlrm_ray.experts.evidence import contains_word
from vlrm_ray.experts.geometry import iou
from vlrm_ray.experts.score_calibration import SCORE_BINS, Proportion, ScoreCalibration, score_bin
from vlrm_ray.experts.text_measurement import measure_text_claims, recall_by_height
from vlrm_ray.types import Detection, Evidence

MATCH_IOU = 0.5
"""A box matches a ground-truth object from this intersection over union on."""
SIZES, LARGE = {"small": 32, "medium": 96}, "large"
"""Sizes of objects as COCO counts them: side in pixels of the square that is too large for the name."""
RANGE_TAIL = 0.001
"""Share of the measured values left out at each end of a range."""


def calibrate_detector(
    expert: str, images: Sequence[LabelledEvidence], confidence: float, stated: float, min_images: int = MIN_IMAGES
) -> DetectorCalibration:
    """Calibrate a detector with tables of claims.

    Boxes are measured in the images in which all objects have a labelled box, and the ranges of sizes and quality in the typical
    images. Classes that the detector reports in none of the images are left out.

    Args:
        expert: fingerprint of the detector.
        images: labelled images.
        confidence: as in `measure_detector`.
        stated: probability with which verdicts are to be right.
        min_images: as in `measure_object_claims`.
    """
    placed = [image for image in images if image.placed]
    typical = [image.detected for image in images if image.typical]
    measured = measure_detector(
        expert, [image.detected for image in placed], [image.truth for image in placed], confidence, typical
    )
    claims = measure_object_claims(images, stated, min_images)
    classes = {name: known for name, known in measured.classes.items() if name in claims.images}
    return replace(measured, classes=classes, claims=claims)


def calibrate_reader(expert: str, images: Sequence[LabelledEvidence], stated: float) -> ReaderCalibration:
    """Calibrate an OCR reader with tables of claims; arguments as in `calibrate_detector`."""
    measured = measure_reader(expert, [image.detected for image in images], [image.truth for image in images])
    return replace(measured, by_height=recall_by_height(images), claims=measure_text_claims(images, stated))


def measure_detector(
    expert: str,
    detected: Sequence[Evidence],
    truth: Sequence[Evidence],
    confidence: float,
    typical: Sequence[Evidence] = (),
) -> DetectorCalibration:
    """Calibrate a detector on images with ground truth.

    Args:
        expert: fingerprint of the detector.
        detected: what the detector reported, one entry per image.
        truth: the ground truth of the same images.
        confidence: precision and colors are measured on boxes with at least this score.
        typical: what was detected in the images that the ranges of sizes and quality are taken from; empty takes all.
    """
    matches, targets = _matches(detected, truth), _targets(detected, truth)
    with_text = {o for t in truth for o in t.objects if any(contains_word(o, word) for word in t.words)}
    colored = [
        (box, target)
        for box, target in chain.from_iterable(matches.values())
        if box.score >= confidence and target and box.color and target.color and target not in with_text
    ]
    typical = typical or detected
    sizes = _box_sizes(detected)
    return DetectorCalibration(
        expert=expert,
        images=len(detected),
        classes={
            name: _measure_class(sizes[name], matches[name], targets[name], confidence) for name in sorted(targets)
        },
        scores=_by_score(_answers(chain.from_iterable(matches.values()))),
        colors=Proportion.of(box.color == target.color for box, target in colored if target),
        blur=_range([d.quality.blur for d in typical]),
        unexplained=_range([d.quality.unexplained for d in typical]),
        crowd=max((len(d.objects) for d in typical), default=0),
        image_sides=_range([max(d.width, d.height) for d in typical]),
        image_shapes=_range([min(d.width, d.height) / max(d.width, d.height) for d in typical]),
    )


@dataclass(frozen=True)
class _Target:
    """A ground-truth object.

    Attributes:
        target: the object.
        detected: whether a box of its class matches it that is not faint.
        found: whether any box of its class matches it.
    """

    target: Detection
    detected: bool
    found: bool


_Match = tuple[Detection, Detection | None]
"""A box, and the ground-truth object that it matches."""


def _matches(detected: Sequence[Evidence], truth: Sequence[Evidence]) -> dict[str, list[_Match]]:
    """All boxes with the objects that they match, by the class of the box; no boxes for other classes."""
    found: dict[str, list[_Match]] = defaultdict(list)
    for d, t in zip(detected, truth, strict=True):
        for box, target in _match_boxes(d, t):
            found[box.name].append((box, target))
    return found


def _targets(detected: Sequence[Evidence], truth: Sequence[Evidence]) -> dict[str, list[_Target]]:
    """All ground-truth objects, by class."""
    found: dict[str, list[_Target]] = {}
    for d, t in zip(detected, truth, strict=True):
        for target in t.objects:
            sure = _is_detected(target, d.objects)
            known = _Target(target, sure, sure or _is_detected(target, d.faint))
            found.setdefault(target.name, []).append(known)
    return found


def _measure_class(
    sizes: Sequence[tuple[float, float]], matches: Sequence[_Match], targets: Sequence[_Target], confidence: float
) -> ClassCalibration:
    """Recall, precision and box shapes of a class, from its boxes and its objects; precision from a score on."""
    by_size = [(_size_of(target.target), target.found) for target in targets]
    return ClassCalibration(
        recall=Proportion.of(target.detected for target in targets),
        precision=Proportion.of(_is_right(box, target) for box, target in matches if box.score >= confidence),
        sides=_range([side for size in sizes for side in size]),
        aspect=_range([width / height for width, height in sizes]),
        found=Proportion.of(target.found for target in targets),
        by_size={size: Proportion.of(hit for s, hit in by_size if s == size) for size in (*SIZES, LARGE)},
    )


def _size_of(target: Detection) -> str:
    """Size of an object by its pixels, in the terms of COCO."""
    x0, y0, x1, y1 = target.box
    return next((size for size, side in SIZES.items() if (x1 - x0) * (y1 - y0) < side**2), LARGE)


def measure_reader(expert: str, detected: Sequence[Evidence], truth: Sequence[Evidence]) -> ReaderCalibration:
    """Calibrate an OCR reader on images with ground truth; arguments as in `measure_detector`."""
    pairs = list(zip(detected, truth, strict=True))
    reads = [(word, [x.text for x in t.words]) for d, t in pairs for word in d.words]
    return ReaderCalibration(
        expert=expert,
        images=len(detected),
        recall=Proportion.of(word.text in [x.text for x in d.words] for d, t in pairs for word in t.words),
        scores=_by_score([(word.score, word.text in texts, not texts) for word, texts in reads]),
    )


def _match_boxes(detected: Evidence, truth: Evidence) -> Iterator[tuple[Detection, Detection | None]]:
    """Each box, including faint ones, with the ground-truth object that it matches, or None."""
    for box in (*detected.objects, *detected.faint):
        best = max(truth.objects, key=lambda target: iou(target.box, box.box), default=None)
        yield box, best if best is not None and iou(best.box, box.box) >= MATCH_IOU else None


def _is_right(box: Detection, target: Detection | None) -> bool:
    return target is not None and target.name == box.name


def _is_detected(target: Detection, objects: Sequence[Detection]) -> bool:
    return any(o.name == target.name and iou(o.box, target.box) >= MATCH_IOU for o in objects)


def _box_sizes(detected: Sequence[Evidence]) -> dict[str, list[tuple[float, float]]]:
    """Width and height of the boxes of each class, as shares of the image's longer side; none for other classes."""
    sizes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for d in detected:
        longer = max(d.width, d.height)
        for o in d.objects:
            x0, y0, x1, y1 = o.box
            sizes[o.name].append(((x1 - x0) / longer, (y1 - y0) / longer))
    return sizes


def _answers(matches: Iterable[_Match]) -> list[tuple[float, bool, bool]]:
    """Score of each box, whether it shows an object of its class, and whether it shows one of another class."""
    return [(b.score, _is_right(b, target), target is not None and target.name != b.name) for b, target in matches]


def _by_score(answers: Sequence[tuple[float, bool, bool]]) -> ScoreCalibration:
    """Calibration from the score of each answer, whether it was right, and whether it was confused."""
    groups: list[list[tuple[float, bool, bool]]] = [[] for _ in range(SCORE_BINS)]
    for answer in answers:
        groups[score_bin(answer[0])].append(answer)
    return ScoreCalibration(
        tuple(Proportion.of(right for _, right, _ in group) for group in groups),
        tuple(Proportion.of(confused for _, _, confused in group) for group in groups),
    )


def _range(values: Sequence[float]) -> Range:
    """Range of values without the `RANGE_TAIL` at each end; (0, 0) without values."""
    if not values:
        return 0.0, 0.0
    low, high = np.quantile(values, (RANGE_TAIL, 1 - RANGE_TAIL))
    return round(float(low), 5), round(float(high), 5)
