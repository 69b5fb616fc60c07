"""Images of a simulated detector, and claims measured on them, for the tests of claim tables."""

import random

from vlrm_ray.experts.claim_measurement import LabelledEvidence, measure_object_claims
from vlrm_ray.experts.claim_tables import DetectorClaims
from vlrm_ray.experts.measured_judge import MeasuredJudge
from vlrm_ray.types import Claim, Detection, Evidence, Finding, Shade, Verdict

S, C, U = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE
CLASSES = ("cat", "dog", "car", "person")
COLORS = {"red": Shade(45, 60, 40, 1.0), "blue": Shade(40, 20, -60, 1.0)}


def box(x: float, y: float) -> tuple[float, float, float, float]:
    return (x, y, x + 40.0, y + 40.0)


def simulated(
    seed: int, images: int = 600, missed: float = 0.02, noise: float = 0.1, copies: int = 1
) -> list[LabelledEvidence]:
    """Images with objects on a grid, seen by a detector that misses some and reports faint boxes where nothing is."""
    rng, labelled = random.Random(seed), []
    for number in range(images):
        places = [box(x, y) for x in (0.0, 60.0, 120.0, 180.0) for y in (0.0, 60.0, 120.0)]
        rng.shuffle(places)
        truth, seen = [], []
        for name in rng.sample(CLASSES, rng.choice((1, 2, 2))):
            for _ in range(rng.choice((1, 1, 2, 3))):
                place, color = places.pop(), rng.choice(sorted(COLORS))
                truth.append(Detection(name, place, 1.0, color))
                if rng.random() > missed:
                    seen.append(Detection(name, place, rng.uniform(0.4, 0.95), shades=(COLORS[color],)))
        for name in CLASSES:
            if rng.random() < noise:
                seen.append(Detection(name, places.pop(), rng.uniform(0.05, 0.3)))
        objects, faint = [o for o in seen if o.score >= 0.35], [o for o in seen if o.score < 0.35]
        evidence = Evidence(240, 180, tuple(objects), faint=tuple(faint))
        known = LabelledEvidence.of(evidence, Evidence(240, 180, tuple(truth)), CLASSES)
        names = {o.name: frozenset({f"{o.name} {number // copies}"}) for o in truth}
        labelled.append(LabelledEvidence(known.detected, known.truth, known.counts, known.absent, known.colors, names))
    return labelled


CLAIMS = measure_object_claims(simulated(0, 1500, 0.004), 0.95, 20)


def finding(claim: Claim, evidence: Evidence, claims: DetectorClaims = CLAIMS, **problem: object) -> Finding:
    found = MeasuredJudge(evidence, claims, None, **problem).judge(claim)  # type: ignore[arg-type]
    assert found is not None
    return found


def seen(*detections: tuple[str, float], color: str = "red") -> Evidence:
    boxes = [Detection(n, box(60.0 * i, 0), s, shades=(COLORS[color],)) for i, (n, s) in enumerate(detections)]
    objects, faint = (tuple(b for b in boxes if (b.score >= 0.35) is sure) for sure in (True, False))
    return Evidence(240, 180, objects, faint=faint)
