"""Quality of the experts' verdicts on statements with known truth, from the text to its claims and their verdicts."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vlrm_ray.claims import Extractor
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.experts.statement_verdict import verdict_on
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.experts.vision_experts import BATCH, VisionExperts
from vlrm_ray.scenes.shifts import LabelledImage, labelled_image
from vlrm_ray.scenes.statements import Statement, statements
from vlrm_ray.types import CHECKED_TYPES, CheckedClaim, Evidence, Verdict

FIRST_SEED = {"test": 80_000_000, "dev": 72_000_000}
"""First scene of each split. Parameters are tuned on `dev`; training and calibration use neither."""
PER_SEED = 100_000
"""Distance between the first scenes of two values of `--seed`."""
EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Edges of the reliability diagram's confidence bins."""


@dataclass(frozen=True)
class Outcome:
    """The experts' verdict on a statement.

    Attributes:
        statement: the statement.
        verdict: the verdict.
        confidence: confidence of the claim that decided it, 0 if unverifiable.
        reason: why it is unverifiable.
    """

    statement: Statement
    verdict: Verdict
    confidence: float
    reason: str = ""

    @property
    def right(self) -> bool:
        """Whether the verdict, if it is not unverifiable, agrees with the truth."""
        return (self.verdict is Verdict.SUPPORTED) is self.statement.true


@dataclass(frozen=True)
class ExpertsUnderTest:
    """The components that turn images and statements into verdicts."""

    vision_experts: VisionExperts
    extractor: Extractor
    verifier: Verifier

    def run(self, kind: str, seeds: Sequence[int]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of all statements about the images of `seeds`, in batches of `BATCH` images.

        Args:
            kind: kind of `labelled_image`.
            seeds: seeds of the scenes.
        """
        for start in range(0, len(seeds), BATCH):
            batch = [labelled_image(kind, seed) for seed in seeds[start : start + BATCH]]
            pixels = [np.asarray(labelled.rendered.image) for labelled in batch]
            yield self.outcomes(batch, self.vision_experts.inspect(pixels))

    def outcomes(self, images: Sequence[LabelledImage], evidence: Sequence[Evidence]) -> list[Outcome]:
        """Verdicts on all statements about the images, from the evidence of each."""
        checked = [
            (statement, detected)
            for image, detected in zip(images, evidence, strict=True)
            for statement in statements(image, random.Random(f"statements-{image.scene.seed}"))
        ]
        extracted = self.extractor.claims_batch([(statement.text, statement.question) for statement, _ in checked])
        return [
            outcome_of(
                statement, self.verifier.check_all([c for c in found.claims if c.type is statement.type], detected)
            )
            for (statement, detected), found in zip(checked, extracted, strict=True)
        ]


def outcome_of(statement: Statement, checked: Sequence[CheckedClaim]) -> Outcome:
    """The outcome of a statement, from the findings on its claims."""
    found = verdict_on(checked)
    return Outcome(statement, found.verdict, found.confidence, found.reason)


def figures(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float | int | None]]:
    """`figures_of` the statements of each claim type."""
    return {str(kind): figures_of([o for o in outcomes if o.statement.type is kind]) for kind in CHECKED_TYPES}


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Precision and recall of both verdicts, and the share of unverifiable statements.

    `precision_..._low` is the lower end of the precision's 95 % interval. A value without cases is None.
    """
    result: dict[str, float | int | None] = {}
    for name, verdict, truth in (("contradicted", Verdict.CONTRADICTED, False), ("supported", Verdict.SUPPORTED, True)):
        predicted = [o.statement.true is truth for o in outcomes if o.verdict is verdict]
        relevant = [o.verdict is verdict for o in outcomes if o.statement.true is truth]
        result[f"precision_{name}"] = _rate(predicted)
        result[f"precision_{name}_low"] = round(share(predicted).low, 4)
        result[f"recall_{name}"] = _rate(relevant)
    result["unverifiable"] = _rate([o.verdict is Verdict.UNVERIFIABLE for o in outcomes])
    return result | {"n": len(outcomes)}


def _rate(hits: Sequence[bool]) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None


def reliability(outcomes: Sequence[Outcome]) -> list[dict[str, float | int]]:
    """Mean confidence and accuracy of the verdicts that are not unverifiable, by confidence bin."""
    verified = [o for o in outcomes if o.verdict is not Verdict.UNVERIFIABLE]
    bins = []
    for low, high in pairwise(EDGES):
        inside = [o for o in verified if low <= o.confidence < high or o.confidence == high == 1.0]
        if inside:
            bins.append(
                {
                    "from": low,
                    "to": high,
                    "confidence": round(float(np.mean([o.confidence for o in inside])), 4),
                    "accuracy": round(float(np.mean([o.right for o in inside])), 4),
                    "n": len(inside),
                }
            )
    return bins


def reasons(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How often each reason made a statement unverifiable, most frequent first."""
    counts: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.verdict is Verdict.UNVERIFIABLE:
            counts[outcome.reason] = counts.get(outcome.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: -entry[1]))
