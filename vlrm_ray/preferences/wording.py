"""Balance of wordings: how often a kind of statement is true and how often it is false in what is trained.

A policy may say "no circles" mostly where there are some. A model that is trained on its responses then learns that "no" is
wrong, whatever the image shows. `side_weights` gives both cases of each wording the same total weight.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from vlrm_ray.types import Candidate, CheckedClaim, Claim, ClaimType, Pair, Verdict

Counts = dict[str, list[int]]
"""For each wording how often it was true, in chosen responses, and false, in rejected ones: {"count 2": [5, 23]}."""
_WITH_VALUE = (ClaimType.ATTRIBUTE, ClaimType.COUNT, ClaimType.RELATION, ClaimType.TEXT)
SMOOTHING = 1.0
"""Added to both counts of a wording, so that rare ones get no extreme weights."""


def wordings_of(pair: Pair) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The wordings in which a pair's responses differ: of the chosen one's supported, the rejected one's contradicted claims.

    A wording is a claim without its subject: "count 2", "attribute red", "relation left_of", "object" or, of a claim that
    denies, "no object".
    """
    return (
        _wordings(pair.chosen, pair.rejected, Verdict.SUPPORTED),
        _wordings(pair.rejected, pair.chosen, Verdict.CONTRADICTED),
    )


def _wordings(side: Candidate, other: Candidate, verdict: Verdict) -> tuple[str, ...]:
    shared = {_statement(checked.claim) for checked in other.claims}
    return tuple(
        sorted(
            {
                _wording(checked)
                for checked in side.claims
                if checked.finding.verdict is verdict and _statement(checked.claim) not in shared
            }
        )
    )


def _statement(claim: Claim) -> tuple[object, ...]:
    """What a claim says, wherever in the response it stands."""
    return claim.type, claim.subject, claim.value, claim.object, claim.negated


def _wording(checked: CheckedClaim) -> str:
    claim = checked.claim
    value = f" {claim.value}" if claim.type in _WITH_VALUE else ""
    return f"{'no ' if claim.negated else ''}{claim.type.value}{value}"


def count_wordings(sides: Iterable[tuple[Iterable[str], Iterable[str]]]) -> Counts:
    """Count the wordings of some pairs, each given as the wordings of its chosen and of its rejected response."""
    true, false = Counter[str](), Counter[str]()
    for chosen, rejected in sides:
        true.update(chosen)
        false.update(rejected)
    return {wording: [true[wording], false[wording]] for wording in sorted({*true, *false})}


def side_weights(
    chosen: Iterable[str], rejected: Iterable[str], counts: Mapping[str, list[int]]
) -> tuple[float, float]:
    """Weights of the two critiques of a pair, given its wordings and the counts of all pairs that are trained together.

    A wording that is true t times and false f times has the weight (t + f) / 2t where it is true and (t + f) / 2f where it is
    false, so that both cases weigh the same in total; a response has the mean of its wordings' weights, 1 without any.
    """
    return _mean_weight(chosen, counts, 0), _mean_weight(rejected, counts, 1)


def _mean_weight(wordings: Iterable[str], counts: Mapping[str, list[int]], side: int) -> float:
    weights = []
    for wording in wordings:
        smoothed = [count + SMOOTHING for count in counts.get(wording, [0, 0])]
        weights.append(sum(smoothed) / 2 / smoothed[side])
    return sum(weights) / len(weights) if weights else 1.0
