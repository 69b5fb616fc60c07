"""Calibration of the vision experts: how often their answers are right, measured on images with ground truth.

A calibration is a JSON file beside the model: `detector.calibration.json` for `detector.pt`,
`recognition.calibration.json` for the folder `recognition/`. It holds

- recall and precision for each class, with their sample sizes;
- the probability that an answer is right, for each bin of its score;
- the range of image sizes, box sizes, box shapes and image quality that the calibration images covered.

`reliability.py` uses these figures to decide what the verifier may rely on. A score that never occurred in the
calibration counts as right with probability 0.5; boxes and images outside the ranges are treated as uncertain.
Recall holds only for objects of the calibrated size as the detector sees them, so it depends on the image's size too.
"""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vlrm_ray.config import asset_path, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.experts.evidence import contains_word
from vlrm_ray.experts.geometry import iou
from vlrm_ray.store.filesystem import beside, is_remote, read_file, redacted, write_file
from vlrm_ray.store.models import portable
from vlrm_ray.types import Detection, Evidence

SCORE_BINS = 20
"""Number of equal bins of scores between 0 and 1."""
MATCH_IOU = 0.5
"""A box matches a ground-truth object from this intersection over union on."""
RANGE_TAIL = 0.001
"""Share of the measured values left out at each end of a range."""
Range = tuple[float, float]
"""Smallest and largest value."""


@dataclass(frozen=True)
class Proportion:
    """A measured proportion: `hits` successes in `n` trials."""

    hits: int = 0
    n: int = 0

    @cached_property
    def lower_bound(self) -> float:
        """Lower bound of the one-sided 95 % confidence interval (Wilson score interval, 1927); 0 without trials."""
        from scipy.stats import binomtest  # here, since the import takes longer than most stages' start

        return float(binomtest(self.hits, self.n).proportion_ci(0.9, method="wilson").low) if self.n else 0.0

    @property
    def smoothed(self) -> float:
        """Estimate by Laplace's rule of succession, (hits + 1) / (n + 2); 0.5 without trials."""
        return (self.hits + 1) / (self.n + 2)


@dataclass(frozen=True)
class ScoreCalibration:
    """Accuracy of an expert's answers by score, for `SCORE_BINS` bins.

    Attributes:
        right: answers that were right.
        confused: answers that belong to an object of another class (OCR: words read in an image without text).
    """

    right: tuple[Proportion, ...] = (Proportion(),) * SCORE_BINS
    confused: tuple[Proportion, ...] = (Proportion(),) * SCORE_BINS

    def probability(self, score: float) -> float:
        """Calibrated probability that an answer with this score is right."""
        return self._curve[_bin(score)]

    def confusion(self, score: float) -> float:
        """Probability that an answer with this score belongs to an object of another class."""
        return self.confused[_bin(score)].smoothed

    @cached_property
    def _curve(self) -> list[float]:
        """Probability of each bin: isotonic regression over the bins with data, so that it rises with the score.

        A bin without data takes the value of the next lower bin with data, or 0.5 if there is none.
        """
        from scipy.optimize import isotonic_regression

        filled = [share for share in self.right if share.n]
        fitted = (
            iter(isotonic_regression([s.smoothed for s in filled], weights=[s.n + 2 for s in filled]).x)
            if filled
            else iter(())
        )
        curve, last = [], 0.5
        for share in self.right:
            last = float(next(fitted)) if share.n else last
            curve.append(last)
        return curve


@dataclass(frozen=True)
class ClassCalibration:
    """Calibration of one class of the detector.

    Attributes:
        recall: ground-truth objects that were detected.
        precision: detections that match a ground-truth object of the class.
        sides: range of box widths and heights, as shares of the image's longer side.
        aspect: range of box width divided by box height.
    """

    recall: Proportion
    precision: Proportion
    sides: Range
    aspect: Range


@dataclass(frozen=True)
class DetectorCalibration:
    """Calibration of a detector.

    Attributes:
        expert: fingerprint of the detector.
        images: number of calibration images.
        classes: calibration of each class of the ground truth.
        scores: accuracy by detection score.
        colors: detections with the right color, of those with a named color.
        blur: range of `Quality.blur` over the calibration images.
        unexplained: range of `Quality.unexplained` over the calibration images.
        crowd: largest number of detected objects in one image.
        image_sides: range of the images' longer sides in pixels; None if the file does not say, and then the images
            were as large as the detector's input.
        image_shapes: range of the images' shorter sides, as shares of the longer ones.
    """

    expert: str
    images: int
    classes: dict[str, ClassCalibration]
    scores: ScoreCalibration
    colors: Proportion
    blur: Range
    unexplained: Range
    crowd: int
    image_sides: Range | None = None
    image_shapes: Range = (1.0, 1.0)


@dataclass(frozen=True)
class ReaderCalibration:
    """Calibration of an OCR reader.

    Attributes:
        expert: fingerprint of the reader.
        images: number of calibration images.
        recall: ground-truth words that were read exactly.
        scores: accuracy by the score of a word.
    """

    expert: str
    images: int
    recall: Proportion
    scores: ScoreCalibration


def measure_detector(
    expert: str, detected: Sequence[Evidence], truth: Sequence[Evidence], confidence: float
) -> DetectorCalibration:
    """Calibrate a detector on images with ground truth.

    Args:
        expert: fingerprint of the detector.
        detected: what the detector reported, one entry per image.
        truth: the ground truth of the same images.
        confidence: precision and colors are measured on boxes with at least this score.
    """
    matches = [match for d, t in zip(detected, truth, strict=True) for match in _match_boxes(d, t)]
    confident = [(box, target) for box, target in matches if box.score >= confidence]
    targets = [(target, d.objects) for d, t in zip(detected, truth, strict=True) for target in t.objects]
    with_text = {o for t in truth for o in t.objects if any(contains_word(o, word) for word in t.words)}
    colored = [
        (box, target) for box, target in confident if target and box.color and target.color and target not in with_text
    ]
    sizes = {name: _box_sizes(name, detected) for name in sorted({target.name for target, _ in targets})}
    return DetectorCalibration(
        expert=expert,
        images=len(detected),
        classes={
            name: ClassCalibration(
                recall=_proportion(_is_detected(target, objects) for target, objects in targets if target.name == name),
                precision=_proportion(_is_right(box, target) for box, target in confident if box.name == name),
                sides=_range([side for size in sides for side in size]),
                aspect=_range([width / height for width, height in sides]),
            )
            for name, sides in sizes.items()
        },
        scores=_by_score([(b.score, _is_right(b, t), t is not None and t.name != b.name) for b, t in matches]),
        colors=_proportion(box.color == target.color for box, target in colored if target),
        blur=_range([d.quality.blur for d in detected]),
        unexplained=_range([d.quality.unexplained for d in detected]),
        crowd=max((len(d.objects) for d in detected), default=0),
        image_sides=_range([max(d.width, d.height) for d in detected]),
        image_shapes=_range([min(d.width, d.height) / max(d.width, d.height) for d in detected]),
    )


def measure_reader(expert: str, detected: Sequence[Evidence], truth: Sequence[Evidence]) -> ReaderCalibration:
    """Calibrate an OCR reader on images with ground truth; arguments as in `measure_detector`."""
    pairs = list(zip(detected, truth, strict=True))
    reads = [(word, [x.text for x in t.words]) for d, t in pairs for word in d.words]
    return ReaderCalibration(
        expert=expert,
        images=len(detected),
        recall=_proportion(word.text in [x.text for x in d.words] for d, t in pairs for word in t.words),
        scores=_by_score([(word.score, word.text in texts, not texts) for word, texts in reads]),
    )


def calibration_file(model: str) -> str:
    """Path or URI of the calibration that belongs to a model: it lies beside the model's file or folder."""
    remote = is_remote(model)
    location = model.partition("?")[0] if remote else asset_path(portable(model))
    folder, name = posixpath.split(location.rstrip("/"))
    file = f"{Path(name).stem if is_checkpoint(name) else name}.calibration.json"
    return beside(model, file) if remote else posixpath.join(folder, file)


T = TypeVar("T", DetectorCalibration, ReaderCalibration)


def load_calibration(model: str, kind: type[T]) -> T | None:
    """Read the calibration of a model; None if it has none.

    Raises:
        UserError: the file is damaged.
    """
    path = calibration_file(model)
    content = read_file(path)
    if content is None:
        return None
    try:
        calibration: T = TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{redacted(path)} is not a valid calibration ({error.error_count()} errors); delete it or measure it again"
        ) from None
    return calibration


def check_expert(calibration: DetectorCalibration | ReaderCalibration, expert: str, key: str) -> None:
    """Check that a calibration was measured with the configured expert.

    Args:
        calibration: the stored calibration.
        expert: fingerprint of the configured expert.
        key: config section of the expert, for the error message.

    Raises:
        UserError: the fingerprints differ.
    """
    if calibration.expert != expert:
        raise UserError(
            f"{key}: the calibration beside the model was measured with another model or other settings; restore "
            "them, measure again (jobs/build_assets.py --measure-only), or delete the calibration file"
        )


def save_calibration(model: str, calibration: DetectorCalibration | ReaderCalibration) -> str:
    """Write a calibration beside its model; returns the path or URI of the file."""
    path = calibration_file(model)
    write_file(path, TypeAdapter(type(calibration)).dump_json(calibration, indent=1) + b"\n")
    return path


def _match_boxes(detected: Evidence, truth: Evidence) -> Iterator[tuple[Detection, Detection | None]]:
    """Each box, including faint ones, with the ground-truth object that it matches, or None."""
    for box in (*detected.objects, *detected.faint):
        best = max(truth.objects, key=lambda target: iou(target.box, box.box), default=None)
        yield box, best if best is not None and iou(best.box, box.box) >= MATCH_IOU else None


def _is_right(box: Detection, target: Detection | None) -> bool:
    return target is not None and target.name == box.name


def _is_detected(target: Detection, objects: Sequence[Detection]) -> bool:
    return any(o.name == target.name and iou(o.box, target.box) >= MATCH_IOU for o in objects)


def _box_sizes(name: str, detected: Sequence[Evidence]) -> list[tuple[float, float]]:
    """Width and height of the boxes of a class, as shares of the image's longer side."""
    boxes = [(o.box, max(d.width, d.height)) for d in detected for o in d.objects if o.name == name]
    return [((box[2] - box[0]) / longer, (box[3] - box[1]) / longer) for box, longer in boxes]


def _by_score(answers: Sequence[tuple[float, bool, bool]]) -> ScoreCalibration:
    """Calibration from the score of each answer, whether it was right, and whether it was confused."""
    groups = [[a for a in answers if _bin(a[0]) == b] for b in range(SCORE_BINS)]
    return ScoreCalibration(
        tuple(_proportion(right for _, right, _ in group) for group in groups),
        tuple(_proportion(confused for _, _, confused in group) for group in groups),
    )


def _bin(score: float) -> int:
    return min(SCORE_BINS - 1, max(0, int(score * SCORE_BINS)))


def _proportion(outcomes: Iterator[bool]) -> Proportion:
    values = list(outcomes)
    return Proportion(sum(values), len(values))


def _range(values: Sequence[float]) -> Range:
    """Range of values without the `RANGE_TAIL` at each end; (0, 0) without values."""
    if not values:
        return 0.0, 0.0
    low, high = np.quantile(values, (RANGE_TAIL, 1 - RANGE_TAIL))
    return round(float(low), 5), round(float(high), 5)
