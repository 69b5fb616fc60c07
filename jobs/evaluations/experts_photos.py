"""`experts --photos`: accuracy of the verdicts on the photograph set, over all steps from sentence to verdict.

On the test split the calibration files beside the models are used, as in a run. On the calibration split the experts are
calibrated by cross-validation: the verdicts on each fifth of the natural photographs rest on the figures of the others, and those on
statements about a cut-out on images without it and without the background. Choose parameters there, and look at the test split only to report.
"""

import argparse
import json
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from jobs.evaluations.extractor_options import open_extractor
from jobs.evaluations.photo_set import KINDS, PhotoSet, PhotoStatement
from jobs.evaluations.photo_verdicts import AIMS, PhotoOutcome, outcome_of, report_of
from vlrm_ray.errors import UserError
from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.measurement import calibrate_detector, calibrate_reader
from vlrm_ray.experts.reliability import MIN_PROBABILITY, Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.types import Evidence

FOLDS = {"natural": 5, "composite": 12}
"""Parts of the photographs, or of the cut-outs, in cross-validation."""
BACKGROUND_FOLDS = 4
"""Parts of the backgrounds in cross-validation."""
STATED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
"""Stated probabilities of the curve of precision against decided share."""


@dataclass(frozen=True)
class Content:
    """What can be seen in several images.

    Attributes:
        cutouts: the cut-outs in an image; "" alone if it has none.
        background: the landscape that they were pasted on; "" for a natural photograph.
    """

    cutouts: frozenset[str]
    background: str = ""

    @classmethod
    def of(cls, statement: PhotoStatement) -> "Content":
        """What the image of a statement shows."""
        return cls(frozenset(cutout for cutout, _ in statement.cutouts) or frozenset({""}), statement.background)


@dataclass(frozen=True)
class Part:
    """Images, and the calibrations that the verdicts on them rest on.

    Attributes:
        calibrations: the calibrations.
        evidence: the evidence of the images.
        cutouts: only statements about these cut-outs are judged; None for all.
    """

    calibrations: Calibrations
    evidence: Mapping[str, Evidence]
    cutouts: frozenset[str] | None = None


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
        content = {s.image: Content.of(s) for s in statements}
        parts = [part for kind in KINDS for part in cross_validation(labelled, kinds, kind, confidence, content)]

    def outcomes(stated: float | None) -> list[PhotoOutcome]:
        found = []
        for part in parts:
            verifier = Verifier(part.calibrations if stated is None else at(part.calibrations, stated))
            inside = [(s, c) for s, c in zip(statements, claims, strict=True) if s.image in part.evidence]
            for statement, said in sorted(inside, key=lambda pair: pair[0].image):
                outcome = outcome_of(statement, verifier.check_all(said, part.evidence[statement.image]))
                found += [outcome] if part.cutouts is None or outcome.cutout in part.cutouts else []
        return found

    report = report_of(outcomes(None)) | {"split": split, "curve": [curve_point(s, outcomes(s)) for s in STATED]}
    print_report(report, progress)
    if arguments.json:
        print(json.dumps(report))


def _stored(photos: PhotoSet, kinds: dict[str, str], progress: Progress) -> Iterator[Part]:
    """The stored calibrations for each kind of images, and the evidence of these images."""
    seen = photos.inspect(list(kinds), progress)
    for kind in KINDS:
        detector = photos.config.experts.detector.model_copy(update={"calibration": photos.calibration_file(kind)})
        verifier = Verifier.from_config(photos.config.experts.model_copy(update={"detector": detector}))
        if verifier.calibrations.detector is None or verifier.calibrations.detector.claims is None:
            raise UserError(
                "the detector has no calibration; make one with `python jobs/evaluate.py calibrate --photos`"
            )
        yield Part(verifier.calibrations, {image: seen[image] for image in kinds if kinds[image] == kind})


def cross_validation(
    images: Mapping[str, LabelledEvidence],
    kinds: Mapping[str, str],
    kind: str,
    confidence: float,
    content: Mapping[str, Content],
) -> Iterator[Part]:
    """Calibrations for a kind of images, measured without a part of the images, and the evidence of that part.

    The parts of natural photographs are drawn. Those of composites are the images with some of the cut-outs or some of the backgrounds: the same ones are
    in many of them, so that a part of the images would say little about other objects, and about what may be taken for one. A class all of whose
    cut-outs are held out counts as seen, because classes of one cut-out are judged on other images, too.
    """
    typical = {name: replace(image, typical=kinds[name] == kind) for name, image in images.items()}
    if kind == KINDS[0]:
        for held in _drawn(images, FOLDS[kind]):
            rest = [image for name, image in typical.items() if name not in held]
            evidence = {name: images[name].detected for name in sorted(held) if kinds[name] == kind}
            yield Part(calibrate(rest, confidence), evidence)
        return
    classes = {c for image in typical.values() if image.typical for c in image.counts}
    cutouts = _drawn((c for shown in content.values() for c in shown.cutouts), FOLDS[kind])
    backgrounds = _drawn((shown.background for shown in content.values() if shown.background), BACKGROUND_FOLDS)
    for held, behind in product(cutouts, backgrounds):
        out = {n for n, shown in content.items() if shown.background in behind or not held.isdisjoint(shown.cutouts)}
        rest = [image for name, image in typical.items() if name not in out]
        evidence = {n: images[n].detected for n in sorted(out) if kinds[n] == kind and content[n].background in behind}
        yield Part(_as_seen(calibrate(rest, confidence), classes), evidence, held)


def _drawn(names: Iterable[str], folds: int) -> list[frozenset[str]]:
    """The names in parts of equal size, drawn at random."""
    shuffled = sorted(set(names))
    random.Random(0).shuffle(shuffled)
    return [frozenset(shuffled[fold::folds]) for fold in range(folds)]


def _as_seen(calibrations: Calibrations, classes: Collection[str]) -> Calibrations:
    detector = calibrations.detector
    if detector is None or detector.claims is None:
        return calibrations
    seen = {name: max(number, name in classes) for name, number in detector.claims.seen.items()}
    return replace(calibrations, detector=replace(detector, claims=replace(detector.claims, seen=seen)))


def calibrate(images: Sequence[LabelledEvidence], confidence: float) -> Calibrations:
    """Calibrations of both experts on some images, as `calibrate` writes them."""
    return Calibrations(
        calibrate_detector("", images, confidence, MIN_PROBABILITY),
        calibrate_reader("", images, MIN_PROBABILITY),
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
