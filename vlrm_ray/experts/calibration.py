"""Calibration of the vision experts: how often their answers are right, measured on images with ground truth.

A calibration is a JSON file beside the model: `detector.calibration.json` for `detector.pt`,
`recognition.calibration.json` for the folder `recognition/`. It holds

- recall and precision for each class, with their sample sizes, and the recall of small, medium and large objects;
- the probability that an answer is right, for each bin of its score;
- the range of image sizes, box sizes, box shapes and image quality that the calibration images covered.

`measurement.py` makes one from labelled images. `reliability.py` uses these figures to decide what the verifier may rely on. A score that never occurred in the
calibration counts as right with probability 0.5; boxes and images outside the ranges are treated as uncertain.
Recall holds only for objects of the calibrated size as the detector sees them, so it depends on the image's size too.
"""

import json
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from vlrm_ray.config import asset_path, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.experts.claim_tables import DetectorClaims, ReaderClaims
from vlrm_ray.experts.score_calibration import Proportion, ScoreCalibration
from vlrm_ray.store.filesystem import beside, is_remote, read_file, redacted, write_file
from vlrm_ray.store.models import portable

FORMAT = 3
"""Meaning of the tables of claims in a file. In format 1 those of relations and colors included doubts about the objects, and the
numbers of objects had one table instead of three; until format 2 a class's false claims were its own only. Tables of text mean the
same in all."""
Range = tuple[float, float]
"""Smallest and largest value."""


@dataclass(frozen=True)
class ClassCalibration:
    """Calibration of one class of the detector.

    Attributes:
        recall: ground-truth objects that were detected.
        precision: detections that match a ground-truth object of the class.
        sides: range of box widths and heights, as shares of the image's longer side.
        aspect: range of box width divided by box height.
        found: ground-truth objects for which a box of any score was reported. Boxes with a low score forbid claims of
            absence, so this is the recall that those claims rest on; None if it was not measured, then it is `recall`.
        by_size: as `found`, for objects of less than 32², up to 96², and more pixels: "small", "medium", "large".
    """

    recall: Proportion
    precision: Proportion
    sides: Range
    aspect: Range
    found: Proportion | None = None
    by_size: dict[str, Proportion] = field(default_factory=dict)


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
        claims: how often claims are true by the strength of their evidence; None if it was not measured. Then verdicts rest on
            the other figures (`reliability.py`), else on these (`measured_judge.py`), and classes without a table are uncalibrated.
        format: see `FORMAT`.
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
    claims: DetectorClaims | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class ReaderCalibration:
    """Calibration of an OCR reader.

    Attributes:
        expert: fingerprint of the reader.
        images: number of calibration images.
        recall: ground-truth words that were read exactly.
        scores: accuracy by the score of a word.
        by_height: words that were read exactly, by their height in pixels: see `HEIGHTS` in `text_matching.py`.
        claims: as for a detector, for claims about text.
        format: see `FORMAT`.
    """

    expert: str
    images: int
    recall: Proportion
    scores: ScoreCalibration
    by_height: dict[str, Proportion] = field(default_factory=dict)
    claims: ReaderClaims | None = None
    format: int = FORMAT


def calibration_file(model: str, file: str = "") -> str:
    """Path or URI of the calibration that belongs to a model: `file`, or else beside the model's file or folder."""
    if file:
        return portable(file)
    remote = is_remote(model)
    location = model.partition("?")[0] if remote else asset_path(portable(model))
    folder, name = posixpath.split(location.rstrip("/"))
    beside_it = f"{Path(name).stem if is_checkpoint(name) else name}.calibration.json"
    return beside(model, beside_it) if remote else posixpath.join(folder, beside_it)


def portable_calibration(model: str, file: str = "") -> str:
    """`file` for other processes, which may have another working directory; "" if they find the file beside the model.

    Beside a model that is known by a name, such as yolo11m.pt, means in this process's working directory.
    """
    path = calibration_file(model, file)
    return path if file else portable(path) if not os.path.isabs(path) and os.path.isfile(path) else ""


T = TypeVar("T", DetectorCalibration, ReaderCalibration)


def load_calibration(model: str, kind: type[T], file: str = "") -> T | None:
    """Read the calibration of a model; None if it has none. For the arguments see `calibration_file`.

    Raises:
        UserError: the file is damaged, or of another format.
    """
    path = calibration_file(model, file)
    content = read_file(path)
    if content is None:
        return None
    try:
        calibration: T = TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{redacted(path)} is not a valid calibration ({error.error_count()} errors); delete it or measure it again"
        ) from None
    found = json.loads(content).get("format")
    if kind is DetectorCalibration and calibration.claims and found != FORMAT:
        raise UserError(
            f"{redacted(path)} is a calibration of {f'format {found}' if found else 'an early format'}, whose figures have another "
            f"meaning than those of format {FORMAT}, which this version reads; measure it again with `python jobs/evaluate.py calibrate`"
        )
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
            "them, measure again (jobs/evaluate.py calibrate; jobs/build_assets.py --measure-only for scenes), or delete the calibration file"
        )


def save_calibration(model: str, calibration: DetectorCalibration | ReaderCalibration, file: str = "") -> str:
    """Write a calibration beside its model, or into `file`; returns its path or URI."""
    path = calibration_file(model, file)
    path = path if is_remote(path) else os.path.abspath(path)
    write_file(path, TypeAdapter(type(calibration)).dump_json(calibration, indent=1) + b"\n")
    return path
