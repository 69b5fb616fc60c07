"""Measures how often difficult sentences lead to a wrong verdict when the evidence is exact.

The evidence is the ground truth of the scenes, so that each wrong verdict is one of the reading, not of the detectors.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlrm_ray.claims import Extractor
from vlrm_ray.claims.gold import claim_key
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.hard_statements import HardStatement, hard_statements, written_statements
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, labelled_image
from vlrm_ray.scenes.world import SHAPES, SIGN, SceneObject
from vlrm_ray.types import Evidence, Verdict


@dataclass(frozen=True)
class ReadStatement:
    """A difficult sentence with what became of it.

    Attributes:
        statement: the sentence.
        verdict: contradicted if one of its claims is, else supported if one is, else unverifiable. Unlike by `verdict_on`, a part
            that no expert checks does not leave it open: this is about the claims that are decided.
        contradicted: the claims that were contradicted, as text.
        scene: names of the objects of the scene.
    """

    statement: HardStatement
    verdict: Verdict
    contradicted: tuple[str, ...]
    scene: str


def read_statements(extractor: Extractor, scenes: int, first_seed: int) -> Iterator[ReadStatement]:
    """Yield the verdicts on all sentences written by hand, and on those generated for `scenes` scenes.

    Args:
        extractor: extracts the claims.
        scenes: number of scenes.
        first_seed: seed of the first scene.
    """
    verifier = Verifier(Calibrations(exhaustive=frozenset({*SHAPES, SIGN})))
    for written in written_statements():
        yield from _read(extractor, verifier, written.statements, written.evidence, _objects(written.scene.objects))
    for seed in range(first_seed, first_seed + scenes):
        image = labelled_image(IN_DISTRIBUTION, seed)
        statements = tuple(hard_statements(image, random.Random(f"hard-{seed}")))
        yield from _read(extractor, verifier, statements, true_evidence(image.scene), _objects(image.scene.objects))


def summary(read: Iterable[ReadStatement]) -> dict[str, Any]:
    """Numbers of sentences by truth and verdict.

    Returns:
        `constructions`: the counts of each construction; `overall`: their sums; both with `false_contradiction_rate`, the
        share of true sentences that are contradicted. `false_contradictions` lists each of these with its claims.
    """
    read = list(read)
    by_construction: dict[str, list[ReadStatement]] = {}
    for one in read:
        by_construction.setdefault(one.statement.construction, []).append(one)
    return {
        "overall": _counts(read),
        "constructions": {name: _counts(part) for name, part in sorted(by_construction.items())},
        "false_contradictions": [
            asdict(one.statement) | {"contradicted": one.contradicted, "scene": one.scene}
            for one in read
            if one.statement.true and one.verdict is Verdict.CONTRADICTED
        ],
    }


def _counts(read: Sequence[ReadStatement]) -> dict[str, float]:
    counts = Counter((one.statement.true, one.verdict) for one in read)
    result: dict[str, float] = {}
    for truth in (True, False):
        name = str(truth).lower()
        result[name] = sum(one.statement.true is truth for one in read)
        result |= {f"{name}_{verdict}": counts[truth, verdict] for verdict in Verdict}
    rate = result["true_contradicted"] / result["true"] if result["true"] else 0.0
    return result | {"false_contradiction_rate": round(rate, 5)}


def _read(
    extractor: Extractor, verifier: Verifier, statements: Sequence[HardStatement], evidence: Evidence, scene: str
) -> Iterator[ReadStatement]:
    extracted = extractor.claims_batch([(statement.text, statement.question) for statement in statements])
    for statement, found in zip(statements, extracted, strict=True):
        checked = verifier.check_all(found.claims, evidence)
        verdicts = {c.finding.verdict for c in checked}
        verdict = next((v for v in (Verdict.CONTRADICTED, Verdict.SUPPORTED) if v in verdicts), Verdict.UNVERIFIABLE)
        wrong = tuple(str(claim_key(c.claim)) for c in checked if c.finding.verdict is Verdict.CONTRADICTED)
        yield ReadStatement(statement, verdict, wrong, scene)


def _objects(objects: Iterable[SceneObject]) -> str:
    return ", ".join(f"{o.name} {o.word}".strip() for o in objects)
