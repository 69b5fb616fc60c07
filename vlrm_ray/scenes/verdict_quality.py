"""Verdicts on trial: statements with known truth through the whole path, text to claims to verdicts."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vlrm_ray.claims import Extractor
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.experts.vision_experts import BATCH, VisionExperts
from vlrm_ray.scenes.shifts import View, view
from vlrm_ray.scenes.statements import Statement, statements
from vlrm_ray.types import CheckedClaim, ClaimType, Evidence, Verdict

FIRST_SEED = {"test": 80_000_000, "dev": 72_000_000}
"""Parameters are chosen on `dev`; neither is drawn by training or calibration."""
PER_SEED = 100_000
"""Seeds between two values of `--seed`."""
EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Edges of the reliability diagram's bins of confidence."""


@dataclass(frozen=True)
class Outcome:
    """What became of a statement; `confidence` is that of the deciding claim."""

    statement: Statement
    verdict: Verdict
    confidence: float
    reason: str = ""

    @property
    def right(self) -> bool:
        """Whether a decided verdict agrees with the truth."""
        return (self.verdict is Verdict.SUPPORTED) is self.statement.true


@dataclass(frozen=True)
class Experts:
    """Everything that looks, reads and judges."""

    vision_experts: VisionExperts
    extractor: Extractor
    verifier: Verifier

    def try_out(self, kind: str, seeds: Sequence[int]) -> Iterator[list[Outcome]]:
        """Outcomes for the pictures of some seeds, batch by batch."""
        for start in range(0, len(seeds), BATCH):
            views = [view(kind, seed) for seed in seeds[start : start + BATCH]]
            pictures = [np.asarray(v.picture.image) for v in views]
            yield self.outcomes(views, self.vision_experts.inspect(pictures))

    def outcomes(self, views: Sequence[View], seen: Sequence[Evidence]) -> list[Outcome]:
        """Verdicts on the statements about some pictures."""
        said = [
            (statement, evidence)
            for shown, evidence in zip(views, seen, strict=True)
            for statement in statements(shown, random.Random(f"statements-{shown.scene.seed}"))
        ]
        found = self.extractor.many([(statement.text, statement.question) for statement, _ in said])
        return [
            decided(statement, self.verifier.check_all([c for c in claims if c.type is statement.type], evidence))
            for (statement, evidence), claims in zip(said, found, strict=True)
        ]


def decided(statement: Statement, checked: Sequence[CheckedClaim]) -> Outcome:
    """A statement is contradicted if one of its claims is, else supported if one is, else open."""
    for verdict in (Verdict.CONTRADICTED, Verdict.SUPPORTED):
        found = [c.finding for c in checked if c.finding.verdict is verdict]
        if found:
            return Outcome(statement, verdict, max(f.confidence for f in found))
    return Outcome(statement, Verdict.UNVERIFIABLE, 0.0, checked[0].finding.reason if checked else "no_claim")


def figures(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float | int | None]]:
    """`figures_of` the statements of each claim type."""
    return {str(kind): figures_of([o for o in outcomes if o.statement.type is kind]) for kind in ClaimType}


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Precision with the lower end of its 95 % interval, recall, share of unverifiable; None where nothing was decided."""
    found: dict[str, float | int | None] = {}
    for name, verdict, truth in (("contradicted", Verdict.CONTRADICTED, False), ("supported", Verdict.SUPPORTED, True)):
        given = [o.statement.true is truth for o in outcomes if o.verdict is verdict]
        wanted = [o.verdict is verdict for o in outcomes if o.statement.true is truth]
        found[f"precision_{name}"] = _rate(given)
        found[f"precision_{name}_low"] = round(share(given).low, 4)
        found[f"recall_{name}"] = _rate(wanted)
    found["unverifiable"] = _rate([o.verdict is Verdict.UNVERIFIABLE for o in outcomes])
    return found | {"n": len(outcomes)}


def _rate(hits: Sequence[bool]) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None


def reliability(outcomes: Sequence[Outcome]) -> list[dict[str, float | int]]:
    """Mean confidence beside accuracy of decided verdicts, by bins of confidence."""
    decided_ones = [o for o in outcomes if o.verdict is not Verdict.UNVERIFIABLE]
    bins = []
    for low, high in pairwise(EDGES):
        inside = [o for o in decided_ones if low <= o.confidence < high or o.confidence == high == 1.0]
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
    """Why statements stayed open, most frequent first."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.verdict is Verdict.UNVERIFIABLE:
            found[outcome.reason] = found.get(outcome.reason, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))
