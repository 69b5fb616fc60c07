"""Figures of verdicts on photographs: precision, decided share and calibration, each with N and its 95 % interval.

The same cut-out is in many composites, and where the experts err about it once, they often do so again. The intervals therefore
take clusters of statements as independent: those about the same cut-out, or about the same natural photograph.

The verdict on a statement follows from those on its claims by `verdict_on`; only claims of its own type support it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evaluations.photo_set import KINDS, PhotoStatement
from vlrm_ray.evaluation.clusters import clustered_share, ece
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.statement_verdict import verdict_on
from vlrm_ray.types import CHECKED_TYPES, CheckedClaim, Noun, Verdict

AIMS = {"object": 0.6, "count": 0.4, "text": 0.5, "attribute": 0.5, "relation": 0.4}
"""Decided shares to aim at, by type of statement."""


@dataclass(frozen=True)
class PhotoOutcome:
    """Verdict on a statement about a photograph.

    Attributes:
        statement: the statement.
        verdict: the verdict.
        confidence: its confidence.
        reason: why it is open.
        cutout: the cut-out that the statement is about; "" if there is none in the image.
    """

    statement: PhotoStatement
    verdict: Verdict
    confidence: float = 0.0
    reason: str = ""
    cutout: str = ""

    @property
    def cluster(self) -> str:
        """Statements of different clusters are taken as independent."""
        return self.cutout or self.statement.image

    @property
    def decided(self) -> bool:
        """Whether there is a verdict."""
        return self.verdict is not Verdict.UNVERIFIABLE

    @property
    def right(self) -> bool:
        """Whether the verdict, if there is one, agrees with the truth."""
        return (self.verdict is Verdict.SUPPORTED) is self.statement.true


def outcome_of(statement: PhotoStatement, checked: Sequence[CheckedClaim]) -> PhotoOutcome:
    """Verdict on a statement from those on its claims."""
    cutout = cutout_of(statement, [c.claim.subject for c in checked])
    found = verdict_on(checked, statement.type)
    return PhotoOutcome(statement, found.verdict, found.confidence, found.reason, cutout)


def cutout_of(statement: PhotoStatement, subjects: Sequence[Noun]) -> str:
    """The cut-out that a statement is about: the largest one that a subject of its claims describes, or else the largest."""
    nouns = noun_hierarchy()
    for cutout, names in statement.cutouts:
        if any(nouns.includes(s.name, name) or nouns.may_show(name, s.name) for s in subjects for name in names):
            return cutout
    return statement.cutouts[0][0] if statement.cutouts else ""


def report_of(outcomes: Sequence[PhotoOutcome]) -> dict[str, Any]:
    """All figures of the outcomes at one stated confidence. Hedged statements count by themselves."""
    plain = [o for o in outcomes if not o.statement.hedged]
    hedged = [o for o in outcomes if o.statement.hedged]
    parts: dict[str, Callable[[PhotoOutcome], bool]] = {"all": lambda o: True}
    parts |= {kind: lambda o, kind=kind: o.statement.kind == kind for kind in KINDS}  # type: ignore[misc]
    return {
        "parts": {name: figures([o for o in plain if inside(o)]) for name, inside in parts.items()},
        "types": {
            str(kind): {
                name: figures([o for o in plain if o.statement.type is kind and inside(o)])
                for name, inside in parts.items()
            }
            for kind in CHECKED_TYPES
        },
        "hedged": {"n": len(hedged), "decided": sum(o.decided for o in hedged)},
        "open_because": {
            str(kind): dict(
                Counter(o.reason for o in plain if o.statement.type is kind and not o.decided).most_common()
            )
            for kind in CHECKED_TYPES
        },
        "wrong": [
            {
                "image": o.statement.image,
                "kind": o.statement.kind,
                "type": str(o.statement.type),
                "text": o.statement.text,
                "verdict": str(o.verdict),
                "confidence": o.confidence,
            }
            for o in (*plain, *hedged)
            if o.decided and (not o.right or o.statement.hedged)
        ],
    }


def figures(outcomes: Sequence[PhotoOutcome]) -> dict[str, Any]:
    """Precision of both verdicts, decided share and calibration error of some outcomes, and the number of their clusters."""
    decided = [o for o in outcomes if o.decided]
    supported = [o for o in decided if o.verdict is Verdict.SUPPORTED]
    contradicted = [o for o in decided if o.verdict is Verdict.CONTRADICTED]
    confidences, right = [o.confidence for o in decided], [o.right for o in decided]
    return {
        "n": len(outcomes),
        "clusters": len(set(_clusters(outcomes))),
        "supported": clustered_share([o.right for o in supported], _clusters(supported)).as_json(),
        "contradicted": clustered_share([o.right for o in contradicted], _clusters(contradicted)).as_json(),
        "decided": clustered_share([o.decided for o in outcomes], _clusters(outcomes)).as_json(),
        "ece": ece(confidences, right, _clusters(decided)).as_json(),
    }


def _clusters(outcomes: Sequence[PhotoOutcome]) -> list[str]:
    return [o.cluster for o in outcomes]
