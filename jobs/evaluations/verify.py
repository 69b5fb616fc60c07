"""Try the verifier: the claims of one response, their verdicts, and the evidence, on one picture.

python jobs/evaluate.py verify --image photo.png --text "There is a red circle left of the sign."
python jobs/evaluate.py verify --image photo.png --question "Is there a star?" --text "No." --json
"""

import argparse
import json
from typing import Any

import numpy as np

from actors.local import load_vision_experts
from jobs.evaluations.extractor_options import add_options, chosen
from vlrm_ray.config import load
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.images import decode, read_bytes
from vlrm_ray.types import CheckedClaim, Claim, Evidence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--image", required=True, metavar="FILE", help="picture, a path or a pyarrow.fs URI")
    parser.add_argument("--text", required=True, help="the response to check")
    parser.add_argument("--question", default="", help="what it answers")
    parser.add_argument("--config", metavar="FILE", help="YAML file, as for jobs/iterate.py")
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Look, judge, print."""
    try:
        image = decode(read_bytes(arguments.image))
    except BadImage as error:
        raise UserError(
            f"{arguments.image}: {str(error).replace('_', ' ')}; give a PNG, JPEG, WebP, BMP or GIF"
        ) from None
    config = load(arguments.config)
    verifier = Verifier.from_config(config.experts)
    (evidence,) = load_vision_experts(config).inspect([np.asarray(image)])
    with chosen(arguments) as extractor:
        claims = extractor.claims(arguments.text, arguments.question)
    checked = verifier.check_all(claims, evidence)
    if arguments.json:
        print(json.dumps(_as_json(checked, evidence)))
    else:
        _print(arguments.text, checked, evidence, calibrated=verifier.calibrations.objects is not None)


def _print(text: str, checked: tuple[CheckedClaim, ...], evidence: Evidence, *, calibrated: bool) -> None:
    progress = Progress()
    progress.log(f"seen: {describe_evidence(evidence)}")
    if evidence.faint:
        progress.log("faintly: " + ", ".join(f"{s.name} {s.score:.2f}" for s in evidence.faint))
    if not checked:
        progress.log("no claim was found in the text")
        return
    rows = [
        [
            in_short(c.claim),
            text[slice(*c.claim.span)],
            str(c.finding.verdict),
            f"{c.finding.confidence:.3f}" if c.finding.confidence else "-",
            ", ".join(_found(c, evidence)) or c.finding.reason.replace("_", " "),
        ]
        for c in checked
    ]
    progress.table("claims", ["claim", "in the text", "verdict", "confidence", "evidence, or why"], rows)
    if not calibrated:
        progress.log("no calibration lies beside the detector: scores are its own, and absence is not claimed")


def in_short(claim: Claim) -> str:
    """A claim in one line: "not: relation red circle left_of sign"."""
    parts = [str(claim.type), str(claim.subject), claim.value or "", str(claim.object or "")]
    marks = ("not: " if claim.negated else "") + ("perhaps: " if claim.hedged else "")
    return marks + " ".join(part for part in parts if part)


def _found(checked: CheckedClaim, evidence: Evidence) -> list[str]:
    objects = [f"[{i}] {evidence.objects[i].color} {evidence.objects[i].name}" for i in checked.finding.objects]
    return objects + [f'"{evidence.words[i].text}"' for i in checked.finding.words]


def _as_json(checked: tuple[CheckedClaim, ...], evidence: Evidence) -> dict[str, Any]:
    from pydantic import TypeAdapter

    claims = TypeAdapter(tuple[CheckedClaim, ...]).dump_python(checked, mode="json")
    return {"claims": claims, "evidence": TypeAdapter(Evidence).dump_python(evidence, mode="json")}
