"""`experts --photos`: accuracy of the verdicts on the photograph set, over all steps from sentence to verdict.

On the test split the calibration files beside the models are used, as in a run. On the calibration split the experts are
calibrated by cross-validation: the verdicts on each fifth of the images rest on the figures of the others. Choose parameters
there, and look at the test split only to report.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jobs.evaluations.extractor_options import open_extractor
from jobs.evaluations.photo_set import KINDS, PhotoSet
from jobs.evaluations.photo_verdicts import AIMS, PhotoOutcome, outcome_of, report_of
from vlrm_ray.errors import UserError
from vlrm_ray.experts.claim_measurement import LabelledEvidence, measure_object_claims, measure_text_claims
from vlrm_ray.experts.measurement import MIN_IMAGES, measure_detector, measure_reader
from vlrm_ray.experts.reliability import MIN_PROBABILITY, Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.types import Evidence

FOLDS = 5
"""Parts of the images in cross-validation."""
STATED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
"""Stated probabilities of the curve of precision against decided share."""


def run(arguments: argparse.Namespace) -> None:
    """Measure the verdicts and print the report."""
    progress, photos = Progress(), PhotoSet.open(arguments.photos, arguments.config)
    split = "calibration" if arguments.split == "dev" else "test"
    statements = photos.statements(split)
    with open_extractor(arguments) as extractor:
        claims = [found.claims for found in extractor.claims_batch([(statement.text, "") for statement in statements])]
    kinds = photos.kinds(split)
    if split == "test":
        parts = list(_stored(photos, kinds, progress))
    else:
        labelled, confidence = photos.labelled(split, progress), photos.config.experts.detector.confidence
        parts = [part for kind in KINDS for part in cross_validation(labelled, kinds, kind, confidence)]

    def outcomes(stated: float | None) -> list[PhotoOutcome]:
        found = []
        for calibrations, evidence in parts:
            verifier = Verifier(calibrations if stated is None else at(calibrations, stated))
            inside = [(s, c) for s, c in zip(statements, claims, strict=True) if s.image in evidence]
            for statement, said in sorted(inside, key=lambda pair: pair[0].image):
                found.append(outcome_of(statement, verifier.check_all(said, evidence[statement.image])))
        return found

    report = report_of(outcomes(None)) | {"split": split, "curve": [curve_point(s, outcomes(s)) for s in STATED]}
    print_report(report, progress)
    if arguments.json:
        print(json.dumps(report))


def _stored(
    photos: PhotoSet, kinds: dict[str, str], progress: Progress
) -> Iterator[tuple[Calibrations, dict[str, Evidence]]]:
    """The stored calibrations for each kind of images, and the evidence of these images."""
    seen = photos.inspect(list(kinds), progress)
    for kind in KINDS:
        detector = photos.config.experts.detector.model_copy(update={"calibration": photos.calibration_file(kind)})
        verifier = Verifier.from_config(photos.config.experts.model_copy(update={"detector": detector}))
        if verifier.calibrations.detector is None or verifier.calibrations.detector.claims is None:
            raise UserError(
                "the detector has no calibration; make one with `python jobs/evaluate.py calibrate --photos`"
            )
        yield verifier.calibrations, {image: seen[image] for image in kinds if kinds[image] == kind}


def cross_validation(
    images: dict[str, LabelledEvidence], kinds: dict[str, str], kind: str, confidence: float
) -> Iterator[tuple[Calibrations, dict[str, Evidence]]]:
    """Calibrations for a kind of images, measured without a part of the images, and the evidence of that part."""
    names = sorted(images)
    random.Random(0).shuffle(names)
    for fold in range(FOLDS):
        held = set(names[fold::FOLDS])
        rest = [replace(images[name], typical=kinds[name] == kind) for name in names if name not in held]
        yield calibrate(rest, confidence), {name: images[name].detected for name in held if kinds[name] == kind}


def calibrate(images: Sequence[LabelledEvidence], confidence: float) -> Calibrations:
    """Calibrations of both experts on some images, as `calibrate` writes them."""
    placed = [image for image in images if image.placed]
    detected, truth = [i.detected for i in placed], [i.truth for i in placed]
    typical = [image.detected for image in images if image.typical]
    detector = measure_detector("", detected, truth, confidence, MIN_PROBABILITY, MIN_IMAGES, typical)
    return Calibrations(
        replace(detector, claims=measure_object_claims(images, MIN_PROBABILITY, MIN_IMAGES)),
        replace(measure_reader("", detected, truth), claims=measure_text_claims(images, MIN_PROBABILITY)),
        uncalibrated=False,
    )


def at(calibrations: Calibrations, stated: float) -> Calibrations:
    """The calibrations with another stated probability."""

    detector, reader = calibrations.detector, calibrations.reader
    if detector and detector.claims:
        detector = replace(detector, claims=replace(detector.claims, stated=stated))
    if reader and reader.claims:
        reader = replace(reader, claims=replace(reader.claims, stated=stated))
    return replace(calibrations, detector=detector, reader=reader)


def curve_point(stated: float, outcomes: Sequence[PhotoOutcome]) -> dict[str, Any]:
    """Precision and decided share at a stated probability."""
    whole = report_of(outcomes)
    types = {kind: _brief(parts["all"]) for kind, parts in whole["types"].items()}
    return {"stated": stated, "all": _brief(whole["parts"]["all"]), **types}


def _brief(figures: dict[str, Any]) -> dict[str, Any]:
    keys = ("supported", "contradicted", "decided", "ece")
    return {key: figures[key]["value"] if figures[key]["n"] else None for key in keys}


def print_report(report: dict[str, Any], progress: Progress) -> None:
    """Print the tables of a report."""
    columns = ["", "supported: right", "contradicted: right", "decided", "aim", "ECE", "statements", "clusters"]
    for part in ("all", "natural", "composite"):
        rows = [
            [
                kind,
                *_figures(parts[part]),
                f"{100 * AIMS[kind]:.0f} %",
                _metric(parts[part]["ece"], 1),
                str(parts[part]["n"]),
                str(parts[part]["clusters"]),
            ]
            for kind, parts in report["types"].items()
        ]
        whole = report["parts"][part]
        rows.append(["all", *_figures(whole), "", _metric(whole["ece"], 1), str(whole["n"]), str(whole["clusters"])])
        progress.table(f"{report['split']} split, {part} images", columns, rows)
    progress.log(
        "clusters: cut-outs and natural photographs that statements are about; the intervals take them as independent"
    )
    rows = [
        [f"{point['stated']:.2f}", *(_curve(point[kind]) for kind in ("all", *report["types"]))]
        for point in report["curve"]
    ]
    title = "right supported / right contradicted / decided, in %, by stated probability"
    progress.table(title, ["stated", "all", *report["types"]], rows)
    for kind, reasons in report["open_because"].items():
        progress.log(f"open, {kind}: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items()))
    progress.log(f"hedged statements: {report['hedged']['decided']} of {report['hedged']['n']} decided")
    for wrong in report["wrong"]:
        truth = "although false" if wrong["verdict"] == "supported" else "although true"
        progress.log(f"{wrong['verdict']} ({wrong['confidence']:.2f}) {truth}: {wrong['text']!r}, {wrong['image']}")


def _figures(figures: dict[str, Any]) -> list[str]:
    return [_metric(figures[key], 100) for key in ("supported", "contradicted", "decided")]


def _metric(metric: dict[str, Any], scale: int) -> str:
    """A metric with its interval and N."""
    if not metric["n"]:
        return "-"
    digits = 1 if scale == 100 else 3
    value, (low, high) = metric["value"], metric["ci95"]
    return f"{scale * value:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}] of {metric['n']}"


def _curve(point: dict[str, Any]) -> str:
    return " / ".join(
        "-" if point[k] is None else f"{100 * point[k]:.1f}" for k in ("supported", "contradicted", "decided")
    )
