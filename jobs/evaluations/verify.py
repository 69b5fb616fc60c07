"""Check one response against one image, or all responses of a file: claims, their verdicts and the evidence.

    python jobs/evaluate.py verify --image photo.png --text "There is a red circle left of the sign."
    python jobs/evaluate.py verify --image photo.png --question "Is there a star?" --text "No." --json
    python jobs/evaluate.py verify --image photo.png --text "There is a red circle." --page verdicts.html
    python jobs/evaluate.py verify --data pairs.jsonl --images photos/ --out verdicts.parquet

A claim is supported, contradicted or unverifiable. The vision experts (object detector, OCR) provide the evidence.
--data reads prompts with responses as prompts.source does, and writes a table with a row for each claim. Nothing is
trained, and no Ray is started.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from actors.local import load_vision_experts
from jobs.evaluations.extractor_options import add_extractor_options, open_extractor
from vlrm_ray.config import ASSETS, load
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.report.text import display_text
from vlrm_ray.scenes.world import SHAPES, SIGN
from vlrm_ray.store import garbage_collection
from vlrm_ray.store.images import is_uri, open_image
from vlrm_ray.types import CheckedClaim, Claim, Evidence

_REMEDIES = {
    "image_missing": "check the path",
    "image_unreadable": "check the path and the access rights",
    "image_url_not_fetched": "download the image and give the file",
    "image_too_large": "scale the image down",
}
_OTHER_REMEDY = "give a PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF file"
"""What to do about an image that cannot be used, by the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", metavar="FILE", help="image file: a path or a URI such as s3://...")
    source.add_argument("--data", metavar="FILE", help="file of rows with images, questions and responses")
    parser.add_argument("--text", help="the response to check; needed with --image")
    parser.add_argument("--question", default="", help="the question that the response answers (default: none)")
    parser.add_argument(
        "--images", default="", metavar="DIR", help="where relative image paths of --data start (default: its folder)"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE.html", help="with --image: write a page with image and evidence"
    )
    parser.add_argument("--out", metavar="FILE.parquet", help="the table to write; needed with --data")
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file, as for jobs/iterate.py")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides")
    add_extractor_options(parser, configured=True)
    parser.add_argument("--json", action="store_true", help="print the result, or the summary of --data, as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Check the response to the image, or all responses of the file, and print the result or its summary."""
    needed = "text" if arguments.image else "out"
    if arguments.page and not arguments.image:
        raise UserError("--page shows one image; give --image and --text with it")
    if getattr(arguments, needed) is None:
        raise UserError(f"--{'image' if arguments.image else 'data'} needs --{needed}; add it")
    (_run_image if arguments.image else _run_file)(arguments)


def _run_file(arguments: argparse.Namespace) -> None:
    """Check all responses of a file, write the table and print its summary."""
    from jobs.evaluations.verify_file import FileVerifier, check_any, output_path, print_summary

    out = output_path(arguments.out)
    if not is_uri(arguments.data) and not Path(arguments.data).is_file():
        problem = "is a folder; give a file" if Path(arguments.data).is_dir() else "does not exist; check the path"
        raise UserError(f"--data {arguments.data} {problem}")
    config = load(arguments.config, arguments.overrides)
    progress = Progress(Console(stderr=True, highlight=False, soft_wrap=True) if arguments.json else None)
    verifier, experts = Verifier.from_config(config.experts), load_vision_experts(config)
    with open_extractor(arguments, config.experts) as extractor:
        start = time.monotonic()
        checker = FileVerifier(experts, extractor, verifier, config.prompts.allow_hosts)
        summary = checker.run(arguments.data, arguments.images, out, progress)
    check_any(summary, out)
    if arguments.json:
        print(json.dumps(summary.as_json()))
        return
    print_summary(summary, progress, time.monotonic() - start)
    progress.log(f"verdicts: {out}")


@garbage_collection.loading()
def _run_image(arguments: argparse.Namespace) -> None:
    """Detect objects and text in the image, check the claims of the response, and print the result."""
    if os.path.isdir(arguments.image):  # unlike Path.is_dir, also of what is too long for a path
        raise UserError(f"--image {arguments.image} is a folder; give an image file, or a file of rows with --data")
    try:
        image = open_image(arguments.image)
    except BadImage as error:
        reason, remedy = str(error).replace("_", " "), _REMEDIES.get(str(error), _OTHER_REMEDY)
        raise UserError(f"--image {display_text(arguments.image, 200)}: {reason}; {remedy}") from None
    config = load(arguments.config, arguments.overrides)
    verifier, experts = Verifier.from_config(config.experts), load_vision_experts(config)
    with open_extractor(arguments, config.experts) as extractor:  # while the OCR reader is loading in its own process
        claims = extractor.claims(arguments.text, arguments.question)
    (evidence,) = experts.inspect([np.asarray(image)])
    checked = verifier.check_all(claims, evidence)
    if arguments.page:
        from vlrm_ray.report.box_confidence import confidence_by
        from vlrm_ray.report.page import render_verdicts
        from vlrm_ray.report.prompts import write_file

        page = render_verdicts(
            arguments.image, arguments.question, arguments.text, checked, evidence, confidence_by(verifier.calibrations)
        )
        write_file(arguments.page, page.encode())
    if arguments.json:
        print(json.dumps(_as_json(checked, evidence)))
    else:
        if config.experts.detector.model.startswith(ASSETS):
            print(f"detector: the embedded scenes ({', '.join((*SHAPES, SIGN))}); for photographs give --config")
        _print(arguments.text, checked, evidence, calibrated=verifier.calibrations.detector is not None)
        if arguments.page:
            print(arguments.page)


def _print(text: str, checked: tuple[CheckedClaim, ...], evidence: Evidence, *, calibrated: bool) -> None:
    progress = Progress()
    progress.log(f"evidence: {describe_evidence(evidence)}")
    if evidence.faint:
        detections = ", ".join(f"{detection.name} {detection.score:.2f}" for detection in evidence.faint)
        progress.log(f"detections below the score threshold: {detections}")
    if not checked:
        progress.log("no claim found in the text")
        return
    rows = [
        [
            _format_claim(c.claim),
            text[slice(*c.claim.span)],
            str(c.finding.verdict),
            f"{c.finding.confidence:.3f}" if c.finding.confidence else "-",
            ", ".join(_evidence_of(c, evidence)) or c.finding.reason.replace("_", " "),
        ]
        for c in checked
    ]
    progress.table("claims", ["claim", "in the text", "verdict", "confidence", "evidence or reason"], rows)
    if not calibrated:
        progress.log(
            "the detector has no calibration file: confidences are raw detector scores, and the absence of an object "
            "is not concluded"
        )


def _format_claim(claim: Claim) -> str:
    """A claim in one line, for example "not: relation red circle left_of sign".

    "left open" are those of "perhaps a dog", and numbers of some only: 2 of "two dogs are brown" after "three dogs".
    """
    parts = [str(claim.type), str(claim.subject), claim.value or "", str(claim.object or "")]
    prefix = ("not: " if claim.negated else "") + ("left open: " if claim.hedged else "")
    return prefix + " ".join(part for part in parts if part)


def _evidence_of(checked: CheckedClaim, evidence: Evidence) -> list[str]:
    found = [(i, evidence.objects[i]) for i in checked.finding.objects]
    return [f"[{i}] {f'{o.color} {o.name}'.strip()}" for i, o in found] + [
        f'"{evidence.words[i].text}"' for i in checked.finding.words
    ]


def _as_json(checked: tuple[CheckedClaim, ...], evidence: Evidence) -> dict[str, Any]:
    from pydantic import TypeAdapter

    claims = TypeAdapter(tuple[CheckedClaim, ...]).dump_python(checked, mode="json")
    return {"claims": claims, "evidence": TypeAdapter(Evidence).dump_python(evidence, mode="json")}
