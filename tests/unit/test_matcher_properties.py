"""What holds for any claim about any evidence, calibrated or not."""

from dataclasses import replace
from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from vlrm_ray.config import Experts
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Finding, Noun, Quality, Verdict, Word

NAMES, COLORS = ("circle", "square", "star", "sign", "dog"), ("", "red", "blue", "wooden")
VALUES = (
    None,
    "red",
    "2",
    "0",
    "more",
    "as_many",
    "left_of",
    "next_to",
    "on",
    "behind",
    "STOP",
    "\x00 ]]> \u202e",
    "9" * 400,
)
OPPOSITE = {
    Verdict.SUPPORTED: Verdict.CONTRADICTED,
    Verdict.CONTRADICTED: Verdict.SUPPORTED,
    Verdict.UNVERIFIABLE: Verdict.UNVERIFIABLE,
}

numbers = st.floats(-10, 200, allow_nan=False)
boxes = st.tuples(numbers, numbers, numbers, numbers)
scores = st.floats(0, 1)
things = st.builds(
    Detection, st.sampled_from(NAMES), boxes, scores, st.sampled_from(COLORS[:3]), st.sampled_from(("", "star"))
)
words = st.builds(Word, st.text(max_size=6) | st.sampled_from(("STOP", "EXIT")), boxes, scores)
evidences = st.builds(
    Evidence,
    st.just(128),
    st.just(128),
    st.lists(things, max_size=6, unique_by=lambda s: s.box).map(tuple),
    st.lists(words, max_size=3).map(tuple),
    st.lists(things, max_size=2).map(tuple),
    st.builds(Quality, scores, scores),
)
nouns = st.builds(Noun, st.sampled_from(NAMES), st.lists(st.sampled_from(COLORS[1:]), max_size=2).map(tuple))
claims = st.builds(
    Claim,
    st.sampled_from(ClaimType),
    nouns,
    st.sampled_from(VALUES) | st.text(max_size=8),
    st.none() | nouns,
    st.booleans(),
    st.booleans(),
)


@cache
def verifier(kind: str) -> Verifier:
    """Calibrated as shipped, vouched for by hand, or vouched for by nobody."""
    if kind == "calibrated":
        return Verifier.from_config(Experts())
    return Verifier(Calibrations(exhaustive=frozenset(NAMES) if kind == "by_hand" else frozenset()))


verifiers = st.sampled_from(("calibrated", "by_hand", "nobody")).map(verifier)


def scored_critique(judge: Verifier, claim: Claim, evidence: Evidence) -> Finding:
    return judge.check(claim, evidence).finding


@given(verifiers, claims, evidences)
def test_every_claim_gets_a_verdict_with_a_confidence_and_evidence_that_exists(
    judge: Verifier, claim: Claim, evidence: Evidence
) -> None:
    finding = scored_critique(judge, claim, evidence)
    assert 0 <= finding.confidence <= 1
    assert set(finding.objects) <= set(range(len(evidence.objects)))
    assert set(finding.words) <= set(range(len(evidence.words)))
    assert bool(finding.confidence) or finding.reason or finding.verdict is not Verdict.UNVERIFIABLE


@given(verifiers, claims, evidences)
def test_denying_a_claim_turns_its_verdict(judge: Verifier, claim: Claim, evidence: Evidence) -> None:
    denied = replace(claim, negated=not claim.negated)
    assert scored_critique(judge, denied, evidence).verdict is OPPOSITE[scored_critique(judge, claim, evidence).verdict]


@given(verifiers, claims, evidences)
def test_a_hedged_claim_stays_open(judge: Verifier, claim: Claim, evidence: Evidence) -> None:
    assert scored_critique(judge, replace(claim, hedged=True), evidence).verdict is Verdict.UNVERIFIABLE


@given(claims)
def test_without_evidence_and_without_anyone_to_vouch_nothing_is_decided(claim: Claim) -> None:
    assert scored_critique(verifier("nobody"), claim, Evidence(128, 128)).verdict is Verdict.UNVERIFIABLE


@given(verifiers, claims, evidences, st.randoms())
def test_the_order_of_the_evidence_does_not_matter(
    judge: Verifier, claim: Claim, evidence: Evidence, random: Random
) -> None:
    objects, read = list(evidence.objects), list(evidence.words)
    random.shuffle(objects)
    random.shuffle(read)
    shuffled = replace(evidence, objects=tuple(objects), words=tuple(read))
    one, two = scored_critique(judge, claim, evidence), scored_critique(judge, claim, shuffled)
    assert (one.verdict, one.confidence) == (two.verdict, two.confidence)


@settings(max_examples=200)
@given(verifiers, claims, evidences.filter(lambda e: e.objects), st.integers(0, 5))
def test_reporting_an_object_twice_changes_no_verdict(
    judge: Verifier, claim: Claim, evidence: Evidence, which: int
) -> None:
    again = evidence.objects[which % len(evidence.objects)]
    twice = replace(evidence, objects=(*evidence.objects, again))
    assert scored_critique(judge, claim, evidence).verdict is scored_critique(judge, claim, twice).verdict
