"""Calibrate the configured detector on labelled images: how often is a box right, and how many objects are missed?

    python jobs/evaluate.py calibrate --config mine.yaml --coco annotations.json --images DIR
    python jobs/evaluate.py calibrate --config mine.yaml --yolo data.yaml

The result is written beside the model, or where experts.detector.calibration says. It belongs to this model and its
settings: runs use it from then on, and refuse it for another model. Use images like those of your prompts, with every
object of the labelled classes marked, and not the images that the detector was trained on.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.local import load_vision_experts
from vlrm_ray.config import load
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.calibration import ClassCalibration, DetectorCalibration, Proportion, save_calibration
from vlrm_ray.experts.evidence import combine_evidence
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.labelled_images import LabelledImages, read_coco, read_yolo
from vlrm_ray.experts.measurement import MIN_IMAGES, measure_detector
from vlrm_ray.experts.reliability import MIN_PROBABILITY, MIN_RECALL
from vlrm_ray.experts.vision_experts import BATCH, VisionExperts
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.images import open_image
from vlrm_ray.types import Evidence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--coco", type=Path, metavar="FILE", help="labels in COCO's JSON format")
    labels.add_argument("--yolo", type=Path, metavar="PATH", help="data.yaml or folder of a data set in YOLO format")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images of --coco (default: its folder)"
    )
    parser.add_argument("--config", metavar="FILE", help="configuration in YAML, as for jobs/iterate.py")
    parser.add_argument(
        "--confidence", type=float, default=MIN_PROBABILITY, metavar="P",
        help="`supported` is to be right with at least this probability (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--min-images", type=int, default=MIN_IMAGES, metavar="N",
        help="a class that occurs in fewer images stays uncalibrated (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON on the last line")


def run(arguments: argparse.Namespace) -> None:
    """Run the detector on the images, measure it, and write the calibration."""
    if not 0.5 <= arguments.confidence < 1:
        raise UserError(f"--confidence is {arguments.confidence}, expected at least 0.5 and less than 1")
    if arguments.coco:
        data = read_coco(arguments.coco, arguments.images or arguments.coco.parent)
    else:
        data = read_yolo(arguments.yolo)
    progress, config = Progress(), load(arguments.config)
    settings = config.experts.detector
    experts = load_vision_experts(
        config.model_copy(update={"experts": config.experts.model_copy(
            update={"reader": config.experts.reader.model_copy(update={"enabled": False})})})
    )  # fmt: skip
    pairs, unused = _inspect(experts, data, progress)
    detected, truth = [d for d, _ in pairs], [t for _, t in pairs]
    calibration = measure_detector(
        experts.fingerprints[0], detected, truth, settings.confidence, arguments.confidence, arguments.min_images
    )
    file = save_calibration(settings.model, calibration, settings.calibration)
    _print(calibration, truth, unused, arguments.min_images, progress)
    progress.log(f"written to {file}, for the detector {settings.model} ({experts.fingerprints[0][:12]})")
    if arguments.json:
        print(json.dumps(summary(calibration)))


def _inspect(
    experts: VisionExperts, data: LabelledImages, progress: Progress
) -> tuple[list[tuple[Evidence, Evidence]], list[str]]:
    """What was detected in each usable image and its truth, and the classes of the detector that have no labels.

    A label gets the detector's name of its class, which may be a synonym ("cellphone") or differ in case.
    """
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
    pairs = [
        (replace(file, crowds=tuple((renamed[n], b) for n, b in file.crowds)).measurable(d, known), _named(t, renamed))
        for file, (d, t) in zip(data.files, found, strict=True)
    ]
    return pairs, sorted(names - known)


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


def summary(calibration: DetectorCalibration) -> dict[str, Any]:
    """The figures of each calibrated class, as printed."""
    return {
        name: {
            "images": known.images,
            "objects": known.recall.n,
            "supported_from": known.supported_from,
            "precision": known.precision.hits / known.precision.n if known.precision.n else None,
            "recall": (known.found or known.recall).lower_bound,
            "absence": (known.found or known.recall).lower_bound >= MIN_RECALL,
        }
        for name, known in calibration.classes.items()
    }


def _print(
    calibration: DetectorCalibration, truth: Sequence[Evidence], unused: Sequence[str], least: int, progress: Progress
) -> None:
    columns = [
        "class",
        "images",
        "objects",
        "precision",
        "supported from",
        "recall",
        "small",
        "medium",
        "large",
        "absence",
    ]
    labelled = {name: sum(any(o.name == name for o in t.objects) for t in truth) for t in truth for name in _names(t)}
    rows = [list(_row(name, known)) for name, known in calibration.classes.items()]
    for name in sorted(labelled.keys() - calibration.classes.keys()):
        objects = sum(o.name == name for t in truth for o in t.objects)
        rows.append([name, str(labelled[name]), str(objects), "uncalibrated", f"fewer than {least} images", *"-----"])
    progress.table(f"{calibration.images} images, confidence {calibration.stated}", columns, rows)
    progress.log(
        "supported from: score from which boxes of the class are right with the confidence above, by the lower bound of "
        "the 95 % Wilson interval; recall: objects with a box of any score; absence: claimed if the lower bound of the "
        f"recall is at least {MIN_RECALL}"
    )
    if unused:
        progress.log(f"not labelled, so uncalibrated: {', '.join(unused)}")


def _names(truth: Evidence) -> set[str]:
    return {o.name for o in truth.objects}


def _row(name: str, known: ClassCalibration) -> Iterator[str]:
    found = known.found or known.recall
    yield from (name, str(known.images), str(known.recall.n), _share(known.precision))
    yield "no score" if known.supported_from is None else f"{known.supported_from:.2f}"
    yield f"{_share(found)} (≥ {found.lower_bound:.2f})"
    yield from (_share(known.by_size.get(size, Proportion())) for size in ("small", "medium", "large"))
    yield "claimed" if found.lower_bound >= MIN_RECALL else "not claimed"


def _share(share: Proportion) -> str:
    return f"{100 * share.hits / share.n:.1f} %" if share.n else "-"
