"""Properties of the verifier for arbitrary claims and evidence, with and without calibration."""

from dataclasses import replace
from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from vlrm_ray.config import Experts
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Finding, Noun, Quality, Verdict, Word

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
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
detections = st.builds(
    Detection, st.sampled_from(NAMES), boxes, scores, st.sampled_from(COLORS[:3]), st.sampled_from(("", "star"))
)
words = st.builds(Word, st.text(max_size=6) | st.sampled_from(("STOP", "EXIT")), boxes, scores)
evidences = st.builds(
    Evidence,
    st.just(128),
    st.just(128),
    st.lists(detections, max_size=6, unique_by=lambda s: s.box).map(tuple),
    st.lists(words, max_size=3).map(tuple),
    st.lists(detections, max_size=2).map(tuple),
    st.builds(Quality, scores, scores),
)
nouns = st.builds(
    Noun, st.sampled_from((*NAMES, "animal", "poodle")), st.lists(st.sampled_from(COLORS[1:]), max_size=2).map(tuple)
)
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
def make_verifier(kind: str) -> Verifier:
    """With the shipped calibrations, with classes listed as exhaustive, or with neither."""
    if kind == "calibrated":
        return Verifier.from_config(Experts())
    return Verifier(Calibrations(exhaustive=frozenset(NAMES) if kind == "exhaustive" else frozenset()))


verifiers = st.sampled_from(("calibrated", "exhaustive", "neither")).map(make_verifier)


def finding_of(verifier: Verifier, claim: Claim, evidence: Evidence) -> Finding:
    return verifier.check(claim, evidence).finding


@given(verifiers, claims, evidences)
def test_a_finding_has_a_valid_confidence_and_cites_existing_evidence(
    verifier: Verifier, claim: Claim, evidence: Evidence
) -> None:
    finding = finding_of(verifier, claim, evidence)
    assert 0 <= finding.confidence <= 1
    assert set(finding.objects) <= set(range(len(evidence.objects)))
    assert set(finding.words) <= set(range(len(evidence.words)))
    assert bool(finding.confidence) or finding.reason or finding.verdict is not Verdict.UNVERIFIABLE


@given(verifiers, claims, evidences)
def test_negating_a_claim_inverts_its_verdict(verifier: Verifier, claim: Claim, evidence: Evidence) -> None:
    negated = replace(claim, negated=not claim.negated)
    assert finding_of(verifier, negated, evidence).verdict is OPPOSITE[finding_of(verifier, claim, evidence).verdict]


@given(verifiers, claims, evidences)
def test_a_hedged_claim_is_unverifiable(verifier: Verifier, claim: Claim, evidence: Evidence) -> None:
    assert finding_of(verifier, replace(claim, hedged=True), evidence).verdict is Verdict.UNVERIFIABLE


@given(claims)
def test_without_evidence_and_calibration_every_claim_is_unverifiable(claim: Claim) -> None:
    assert finding_of(make_verifier("neither"), claim, Evidence(128, 128)).verdict is Verdict.UNVERIFIABLE


@given(verifiers, claims, evidences, st.randoms())
def test_the_order_of_the_evidence_does_not_matter(
    verifier: Verifier, claim: Claim, evidence: Evidence, random: Random
) -> None:
    objects, read = list(evidence.objects), list(evidence.words)
    random.shuffle(objects)
    random.shuffle(read)
    shuffled = replace(evidence, objects=tuple(objects), words=tuple(read))
    first, second = finding_of(verifier, claim, evidence), finding_of(verifier, claim, shuffled)
    assert (first.verdict, first.confidence) == (second.verdict, second.confidence)


@settings(max_examples=200)
@given(verifiers, claims, evidences.filter(lambda e: e.objects), st.integers(0, 5))
def test_a_duplicate_detection_changes_no_verdict(
    verifier: Verifier, claim: Claim, evidence: Evidence, which: int
) -> None:
    duplicate = evidence.objects[which % len(evidence.objects)]
    twice = replace(evidence, objects=(*evidence.objects, duplicate))
    assert finding_of(verifier, claim, evidence).verdict is finding_of(verifier, claim, twice).verdict
