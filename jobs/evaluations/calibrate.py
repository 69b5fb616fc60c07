"""Calibrate the configured detector or OCR reader on labelled images: how often is a claim right, given what the expert saw?

    python jobs/evaluate.py calibrate --config mine.yaml --coco annotations.json --images DIR
    python jobs/evaluate.py calibrate --config mine.yaml --yolo data.yaml
    python jobs/evaluate.py calibrate --config mine.yaml --words words.jsonl experts.reader.pool.gpus=0
    python jobs/evaluate.py calibrate --photos       both experts, on the photographs of `make photos`

The result is written beside the model, or where experts.detector.calibration says. It belongs to this model and its
settings: runs use it from then on, and refuse it for another model. It replaces an earlier one; one that was measured on more
images only with --force. Use images like those of your prompts, with every
object of the labelled classes (every text) marked, and not the images that the expert was trained on.

--words reads an object a line: {"image": path, "texts": [{"text": "STOP", "box": [x0, y0, x1, y1]}]}.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from actors.local import load_vision_experts
from jobs.evaluations.calibrate_reader import inspect_words, print_reader, read_words
from jobs.evaluations.photo_set import KINDS, PhotoSet
from vlrm_ray.config import Config, load
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.calibration import (
    ClassCalibration,
    DetectorCalibration,
    ReaderCalibration,
    calibration_file,
    load_calibration,
    save_calibration,
)
from vlrm_ray.experts.claim_measurement import MIN_IMAGES, LabelledEvidence
from vlrm_ray.experts.claim_tables import BINS, SEEN_OBJECTS, ClaimTable, DetectorClaims
from vlrm_ray.experts.evidence import combine_evidence
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.labelled_images import LabelledImages, read_coco, read_yolo
from vlrm_ray.experts.measurement import calibrate_detector, calibrate_reader
from vlrm_ray.experts.named_models import ocr_name
from vlrm_ray.experts.reliability import MIN_PROBABILITY
from vlrm_ray.experts.score_calibration import Proportion
from vlrm_ray.experts.vision_experts import BATCH
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.images import open_image
from vlrm_ray.types import Evidence

T = TypeVar("T", DetectorCalibration, ReaderCalibration)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--coco", type=Path, metavar="FILE", help="labels in COCO's JSON format")
    labels.add_argument("--yolo", type=Path, metavar="PATH", help="data.yaml or folder of a data set in YOLO format")
    labels.add_argument("--words", type=Path, metavar="FILE", help="labelled texts, to calibrate the OCR reader")
    labels.add_argument(
        "--photos", nargs="?", const="", metavar="DIR", help="photographs of `make photos` (default: in this node's cache); give overrides before it"
    )  # fmt: skip
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images of --coco or --words (default: the file's)"
    )
    parser.add_argument("--config", metavar="FILE", help="configuration in YAML, as for jobs/iterate.py")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides")
    parser.add_argument(
        "--confidence", type=float, metavar="P", default=MIN_PROBABILITY,
        help="verdicts are to be right with at least this probability (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--min-images", type=int, default=MIN_IMAGES, metavar="N",
        help="a class with fewer different objects than N is judged mostly by the figures of all classes together "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace a calibration that was measured on more images")
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON on the last line")


def run(arguments: argparse.Namespace) -> None:
    """Run the experts on the images, measure them, and write the calibrations."""
    if not 0.5 <= arguments.confidence < 1:
        raise UserError(f"--confidence is {arguments.confidence}, expected at least 0.5 and less than 1")
    progress, result = Progress(), dict[str, Any]()
    if arguments.photos is not None:
        photos = PhotoSet.open(arguments.photos, arguments.config, arguments.overrides)
        _check_folder(photos.config)
        labelled, kinds = photos.labelled("calibration", progress), photos.kinds("calibration")
        experts = photos.config.experts
        detector, reader = experts.detector.model, experts.reader.recognition_model
        placed = sum(image.placed for image in labelled.values())
        for kind in KINDS:
            _check_replaced(detector, DetectorCalibration, placed, photos.calibration_file(kind), arguments, progress)
        _check_replaced(reader, ReaderCalibration, len(labelled), "", arguments, progress)
        for kind in KINDS:
            progress.log(f"{kind} images")
            images = [replace(image, typical=kinds[name] == kind) for name, image in labelled.items()]
            file = photos.calibration_file(kind)
            result[kind] = _calibrate_detector(photos.config, images, [], file, arguments, progress)
        result |= _calibrate_reader(photos.config, images, arguments, progress)
    elif arguments.words:
        config = load(arguments.config, arguments.overrides)
        _check_folder(config)
        reader, number = config.experts.reader.recognition_model, len(read_words(arguments.words))
        _check_replaced(reader, ReaderCalibration, number, "", arguments, progress)
        images = inspect_words(config, arguments.words, arguments.images, progress)
        result = _calibrate_reader(config, images, arguments, progress)
    else:
        config = load(arguments.config, arguments.overrides)
        if arguments.coco:
            data = read_coco(arguments.coco, arguments.images or arguments.coco.parent)
        else:
            data = read_yolo(arguments.yolo)
        detector, file = config.experts.detector.model, config.experts.detector.calibration
        _check_replaced(detector, DetectorCalibration, len(data.files), file, arguments, progress)
        images, unused = _inspect(config, data, progress)
        result = _calibrate_detector(config, images, unused, file, arguments, progress)
    if arguments.json:
        print(json.dumps(result))


def _check_replaced(
    model: str, kind: type[T], images: int, file: str, arguments: argparse.Namespace, progress: Progress
) -> None:
    """Say that a calibration will be replaced, if there is one; raises UserError if that was measured on more images."""
    if not model:
        return
    path = redacted(calibration_file(model, file))
    try:
        old = load_calibration(model, kind, file)
    except UserError:  # one that is damaged or of another format is measured again
        progress.log(f"replaces the calibration {path}, which cannot be used, by one measured on {images} images")
        return
    if old and old.images > images and not arguments.force:
        raise UserError(
            f"{path} was measured on {old.images} images, more than these {images}; move it away, or replace it with --force"
        )
    if old:
        progress.log(f"replaces the calibration {path}, measured on {old.images} images, by one measured on {images}")


def _check_folder(config: Config) -> None:
    """Raises UserError if the reader's model is no folder beside which its calibration could be written."""
    model = config.experts.reader.recognition_model
    if ocr_name(model, "(empty)"):
        given = f"{model} is the name of one of PaddleOCR's models" if model else "is empty"
        raise UserError(
            f"experts.reader.recognition_model {given}, so there is no folder beside which a calibration could be written; set it "
            "to a PaddleOCR model folder (docs/experts.md says how to copy PaddleOCR's own)"
        )


def _calibrate_detector(
    config: Config,
    images: Sequence[LabelledEvidence],
    unused: Sequence[str],
    file: str,
    arguments: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """Measure the detector, write and print its calibration; returns the figures of its classes."""
    settings = config.experts.detector
    expert = detector_fingerprint(settings)
    calibration = calibrate_detector(expert, images, settings.confidence, arguments.confidence, arguments.min_images)
    file = save_calibration(settings.model, calibration, file)
    figures = summary(calibration, arguments.min_images)
    rare = {name for image in images for name in image.counts} - figures.keys()
    _print(calibration, figures, sorted({*unused, *rare}), arguments.min_images, progress)
    if not any(image.colors for image in images):
        progress.log(
            "the labels name no colors, so none are measured: claims about colors, and about numbers and places of colored objects, "
            "stay open"
        )
    progress.log(f"written to {file}, for the detector {settings.model} ({calibration.expert[:12]})")
    return figures


def _calibrate_reader(
    config: Config, images: Sequence[LabelledEvidence], arguments: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """Measure the OCR reader, write and print its calibration; returns its figures."""
    settings = config.experts.reader
    calibration = calibrate_reader(reader_fingerprint(settings), images, arguments.confidence)
    file = save_calibration(settings.recognition_model, calibration)
    figures = print_reader(calibration, progress)
    progress.log(f"written to {file}, for the reader {settings.recognition_model} ({calibration.expert[:12]})")
    return {"reader": figures}


def _inspect(config: Config, data: LabelledImages, progress: Progress) -> tuple[list[LabelledEvidence], list[str]]:
    """What was detected in each image and its truth, and the classes of the detector that have no labels.

    A label gets the detector's name of its class, which may be a synonym ("cellphone") or differ in case.
    """
    without_reader = config.experts.reader.model_copy(update={"enabled": False})
    experts = load_vision_experts(
        config.model_copy(update={"experts": config.experts.model_copy(update={"reader": without_reader})})
    )
    found: list[tuple[Evidence, Evidence]] = []
    with progress.stage("detect", len(data.files), "images") as meter:
        for start in range(0, len(data.files), BATCH):
            files, images = data.files[start : start + BATCH], []
            for file in files:
                try:
                    images.append(np.asarray(open_image(str(file.path))))
                except BadImage as error:
                    raise UserError(f"{file.path}: {str(error).replace('_', ' ')}; remove or repair it") from None
            for file, image, detections in zip(files, images, experts.detections(images), strict=True):
                found.append((combine_evidence(detections), file.truth(image.shape[1], image.shape[0])))
            meter.add(len(files))
    names = {o.name for d, _ in found for o in (*d.objects, *d.faint)}
    renamed = {label: _detectors_name(label, names) for label in data.classes}
    known = frozenset(renamed.values())
    labelled = []
    for file, (detected, truth) in zip(data.files, found, strict=True):
        crowds = tuple((renamed[name], box) for name, box in file.crowds)
        truth = _named(truth, renamed)
        judged = replace(file, crowds=crowds).measurable(detected, truth, known)
        labelled.append(LabelledEvidence.of(judged, truth, known, frozenset(name for name, _ in crowds)))
    return labelled, sorted(names - known)


def _detectors_name(label: str, names: set[str]) -> str:
    """The detector's name of a labelled class; the label itself if the detector reports no such class."""
    if label in names:
        return label
    same = [name for name in sorted(names) if name.lower() == label.lower()]
    nouns = noun_hierarchy()
    same += [name for name in sorted(names) if nouns.is_same(label.lower(), name)]
    return same[0] if same else label


def _named(truth: Evidence, names: dict[str, str]) -> Evidence:
    return replace(truth, objects=tuple(replace(o, name=names[o.name]) for o in truth.objects))


def summary(calibration: DetectorCalibration, least: int = MIN_IMAGES) -> dict[str, Any]:
    """The figures of each class, as printed: precision and recall of those with at least so many labelled objects."""
    claims = calibration.claims or DetectorClaims(1.0)
    known = {name: c for name, c in calibration.classes.items() if (c.found or c.recall).n >= least}
    return {name: _figures(name, known.get(name), claims) for name in claims.images}


def _figures(name: str, known: ClassCalibration | None, claims: DetectorClaims) -> dict[str, Any]:
    table = claims.objects.get(name, claims.any_object)
    scores = [b / BINS for b in range(1, BINS + 1)]
    found = known.found or known.recall if known else Proportion()
    return {
        "images": claims.images[name],
        "pooled": name in claims.pooled,
        "precision": _rate(known.precision) if known else None,
        "recall": _rate(found),
        **({size: _rate(share) for size, share in known.by_size.items()} if known else {}),
        "supported_from": next((score for score in scores if table.supports(score, claims.stated)), None),
        "absent_below": max(
            (s + 1 / BINS for s in (0.0, *scores) if table.contradicts(s, claims.stated)), default=None
        ),
        "present_without_box": round(table.probability(0), 4),
    }


def _rate(share: Proportion) -> float | None:
    return round(share.hits / share.n, 4) if share.n else None


def _print(
    calibration: DetectorCalibration, classes: dict[str, Any], unused: Sequence[str], least: int, progress: Progress
) -> None:
    columns = ["class", "images", "precision", "recall", "small", "medium", "large", "supported from", "absent below"]
    rows = []
    for name, figures in classes.items():
        shares = [_percent(figures.get(key)) for key in ("precision", "recall", "small", "medium", "large")]
        limits = [f"{figures[key]:.2f}" if figures[key] else "never" for key in ("supported_from", "absent_below")]
        if not figures["images"]:
            continue
        rows.append([f"{name} *" if figures["pooled"] else name, str(figures["images"]), *shares, *limits])
    if all(cell in ("-", "never") for row in rows for cell in row[2:]):
        progress.log(
            f"no table of the classes: in {calibration.images} images there are too few objects for any figures, and no object is "
            "ever supported or absent; label more images"
        )
    else:
        _print_classes(calibration, columns, rows, least, progress)
    never = [name for name, number in (calibration.claims or DetectorClaims(1)).seen.items() if number < SEEN_OBJECTS]
    if never:
        progress.log(f"in no image, so supported by the figures of all classes, and never absent: {', '.join(never)}")
    for name, table in _tables(calibration.claims or DetectorClaims(1.0)):
        remark = "" if table.measured else ": too few, such claims stay open"
        progress.log(f"{name}: measured on {sum(table.true)} true and {sum(table.false)} false claims{remark}")
    if unused:
        progress.log(f"not labelled, or not reported by the detector, so uncalibrated: {', '.join(unused)}")


def _print_classes(
    calibration: DetectorCalibration, columns: list[str], rows: list[list[str]], least: int, progress: Progress
) -> None:
    claims = calibration.claims or DetectorClaims(1.0)
    progress.table(f"{calibration.images} images, confidence {claims.stated}", columns, rows)
    progress.log(
        "supported from, absent below: an object is supported if its highest score is at least the first, and contradicted if it "
        "is below the second; recall: objects with a box of any score"
    )
    if claims.pooled:
        progress.log(f"* fewer than {least} different objects: limits mostly by the figures of all classes")


def _tables(claims: DetectorClaims) -> Iterator[tuple[str, ClaimTable]]:
    yield "objects", claims.any_object
    for group, table in claims.broader.items():
        yield f"broader nouns of {group} or more classes", table
    yield "objects beside a better box of a related class", claims.rivalled
    yield "counts", claims.counts
    yield "comparisons of counts", claims.comparisons
    yield "colors", claims.colors
    yield "relations", claims.relations.get("", ClaimTable())


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"
