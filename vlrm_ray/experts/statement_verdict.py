"""Verdict on a statement from those on its claims, for the reports on statements of known truth."""

from collections.abc import Sequence

from vlrm_ray.types import CheckedClaim, ClaimType, Finding, Verdict


def verdict_on(checked: Sequence[CheckedClaim], kind: ClaimType | None = None) -> Finding:
    """Combine the findings on a statement's claims.

    A statement is contradicted if one of its claims is. It is supported if none is, and all its claims are supported.

    Args:
        checked: the claims, with their findings.
        kind: type of the statement: only claims of this type support it, or leave it open. None takes all.

    Returns:
        The verdict. Its confidence is the largest one of the contradicted, or the smallest one of the supported claims; an open one
        has the reason of the first open claim, `no_claim` if there is none.
    """
    contradicted = [c.finding.confidence for c in checked if c.finding.verdict is Verdict.CONTRADICTED]
    if contradicted:
        return Finding(Verdict.CONTRADICTED, max(contradicted))
    own = [c.finding for c in checked if kind is None or c.claim.type is kind]
    if own and all(finding.verdict is Verdict.SUPPORTED for finding in own):
        return Finding(Verdict.SUPPORTED, min(finding.confidence for finding in own))
    reasons = [finding.reason for finding in own if finding.verdict is Verdict.UNVERIFIABLE]
    return Finding(Verdict.UNVERIFIABLE, reason=reasons[0] if reasons else "no_claim")
