"""Pairing of candidates and selection of critiques."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrm_ray.config import MinVerified, Pairing, Selection
from vlrm_ray.pipeline import remedies
from vlrm_ray.preferences import pairing
from vlrm_ray.preferences.difficulty import MASTERED
from vlrm_ray.preferences.selection import (
    CITES_EXPERTS,
    KEEP_ALL,
    LABEL_MASS,
    MARGIN,
    NO_JUDGEMENT,
    NOT_FINITE,
    WRONG_CHOSEN,
    WRONG_REJECTED,
    select,
)
from vlrm_ray.types import (
    NEVER_SUPPORTED,
    Candidate,
    CheckedClaim,
    Claim,
    ClaimType,
    Finding,
    ImageCondition,
    Noun,
    Pair,
    Prompt,
    ScoredCritique,
    SelectedPair,
    Verdict,
)

OWN_DATA = Path(__file__).parents[2] / "docs" / "own-data.md"
PROMPT = Prompt("p", "image.png", "0" * 64, "What is there?")
RULE = Pairing(per_prompt=2, max_length_ratio=1.5)
RULE_SELF = Pairing(labels="self")


def candidate(name: str, text: str, *verdicts: Verdict, condition: ImageCondition = ImageCondition.FULL) -> Candidate:
    claim = Claim(ClaimType.OBJECT, Noun("circle"))
    return Candidate(name, text, condition, tuple(CheckedClaim(claim, Finding(v)) for v in verdicts))


GOOD = candidate("good", "a red circle", Verdict.SUPPORTED)
BAD = candidate("bad", "a blue circle", Verdict.SUPPORTED, Verdict.CONTRADICTED)


def test_chosen_has_no_contradicted_claim_and_rejected_has_one() -> None:
    pairs, unused = pairing.make_pairs(PROMPT, [BAD, GOOD], RULE)
    assert [(p.chosen, p.rejected) for p in pairs] == [(GOOD, BAD)]
    assert unused == {}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (candidate("x", "unclear", Verdict.UNVERIFIABLE), pairing.NO_CLAIMS),
        (candidate("x", "a red circle", Verdict.SUPPORTED), pairing.DUPLICATE),
        (candidate("x", "a circle", Verdict.SUPPORTED, condition=ImageCondition.IMAGE_FREE), pairing.NOT_FULL),
        (candidate("x", "a very long story of a circle", Verdict.CONTRADICTED), pairing.LENGTH),
        (candidate("x", "a red square", Verdict.SUPPORTED), pairing.NO_PARTNER),
    ],
)
def test_each_unused_candidate_has_a_reason(odd: Candidate, reason: str) -> None:
    _, unused = pairing.make_pairs(PROMPT, [GOOD, odd], RULE)
    assert unused["x"] == reason


def test_rejected_candidates_that_saw_the_whole_image_come_first() -> None:
    guess = candidate("guess", "a blue circle!", Verdict.CONTRADICTED, condition=ImageCondition.IMAGE_FREE)
    (pair,), unused = pairing.make_pairs(PROMPT, [guess, GOOD, BAD], RULE)
    assert pair.rejected is BAD
    assert unused == {"guess": pairing.NO_PARTNER}


def test_a_candidate_that_was_not_fully_read_is_never_chosen() -> None:
    unread = replace(GOOD, fully_read=False)
    assert pairing.make_pairs(PROMPT, [unread, BAD], RULE) == (
        [],
        {"good": pairing.INCOMPLETE, "bad": pairing.NO_PARTNER},
    )


def test_a_candidate_that_was_not_fully_read_is_rejected_if_a_claim_is_contradicted() -> None:
    unread = replace(BAD, fully_read=False)
    (pair,), unused = pairing.make_pairs(PROMPT, [GOOD, unread], RULE)
    assert (pair.chosen, pair.rejected, unused) == (GOOD, unread, {})


def sure_candidate(name: str, text: str, *findings: tuple[Verdict, float], **claim: Any) -> Candidate:
    checked = [
        CheckedClaim(
            Claim(claim.get("type", ClaimType.OBJECT), Noun("circle"), hedged=claim.get("hedged", False)), Finding(v, c)
        )
        for v, c in findings
    ]
    return Candidate(name, text, ImageCondition.FULL, tuple(checked))


def test_verdicts_below_the_minimum_confidence_decide_no_pair() -> None:
    good = sure_candidate("good", "a red circle", (Verdict.SUPPORTED, 0.99), (Verdict.SUPPORTED, 0.5))
    bad = sure_candidate("bad", "a blue circle", (Verdict.CONTRADICTED, 0.98))
    open_ = sure_candidate("open", "a star here", (Verdict.SUPPORTED, 0.96))
    doubtful = sure_candidate("doubtful", "a red box", (Verdict.SUPPORTED, 0.99), (Verdict.CONTRADICTED, 0.95))
    rule = RULE.model_copy(update={"min_confidence": 0.97})
    (pair,), unused = pairing.make_pairs(PROMPT, [good, bad, open_, doubtful], rule)
    assert (pair.chosen, pair.rejected) == (good, bad)
    assert unused == {"open": pairing.UNSURE, "doubtful": pairing.UNSURE}


def test_contradictions_of_what_is_never_supported_decide_no_pair() -> None:
    denial = candidate("denial", "there is no dog", Verdict.SUPPORTED, Verdict.CONTRADICTED)
    one_sided = replace(
        denial,
        claims=tuple(
            replace(c, finding=replace(c.finding, reason=NEVER_SUPPORTED))
            if c.finding.verdict is Verdict.CONTRADICTED
            else c
            for c in denial.claims
        ),
    )
    assert pairing.make_pairs(PROMPT, [GOOD, one_sided], RULE) == (
        [],
        {"denial": pairing.ONE_SIDED, "good": pairing.NO_PARTNER},
    )
    wrong_besides = replace(one_sided, claims=(*one_sided.claims, *denial.claims))
    (pair,), _ = pairing.make_pairs(PROMPT, [GOOD, wrong_besides], RULE)
    assert pair.rejected is wrong_besides


def test_enough_claims_of_a_chosen_response_must_be_supported() -> None:
    half = sure_candidate("half", "a red circle", (Verdict.SUPPORTED, 0.99), (Verdict.UNVERIFIABLE, 0))
    for minimum, reason in (
        (MinVerified(), None),
        (MinVerified(number=2), pairing.FEW_VERIFIED),
        (MinVerified(share=0.5), None),
        (MinVerified(share=0.6), pairing.FEW_VERIFIED),
    ):
        _, unused = pairing.make_pairs(PROMPT, [half, BAD], RULE.model_copy(update={"min_verified": minimum}))
        assert unused.get("half") == reason


@pytest.mark.parametrize("claim", [{"hedged": True}, {"type": ClaimType.STATE}])
def test_states_and_hedged_claims_count_neither_way(claim: dict[str, Any]) -> None:
    rest = sure_candidate("x", "", (Verdict.UNVERIFIABLE, 0), **claim).claims
    good = replace(GOOD, claims=(*GOOD.claims, *rest))
    rule = RULE.model_copy(update={"min_verified": MinVerified(share=1)})
    assert len(pairing.make_pairs(PROMPT, [good, BAD], rule)[0]) == 1


VERDICTS = st.lists(st.sampled_from(list(Verdict)), max_size=3)


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=12), VERDICTS, st.sampled_from(list(ImageCondition))), max_size=8)
)
def test_no_candidate_is_lost_or_used_twice(made: list[tuple[str, list[Verdict], ImageCondition]]) -> None:
    candidates = [
        candidate(str(i), text, *verdicts, condition=condition) for i, (text, verdicts, condition) in enumerate(made)
    ]
    pairs, unused = pairing.make_pairs(PROMPT, candidates, RULE)
    used = [c.candidate_id for p in pairs for c in (p.chosen, p.rejected)]
    assert sorted([*used, *unused]) == sorted(c.candidate_id for c in candidates)
    assert all(p.rejected.contradicted and not p.chosen.contradicted for p in pairs)


SELECTION = Selection(margin=0.2, label_mass=0.5, sides="both")


def scored_critique(word: str, reward: float, mass: float = 1.0) -> ScoredCritique:
    return ScoredCritique(f"Seen: a. Check: b. Judgement: {word}", reward * mass, (1 - reward) * mass)


@pytest.mark.parametrize(
    ("plus", "minus", "outcome"),
    [
        ([scored_critique("No", 0.3)], [scored_critique("No", 0.1)], WRONG_CHOSEN),
        ([scored_critique("Yes", 0.9)], [scored_critique("Yes", 0.8)], WRONG_REJECTED),
        ([scored_critique("Yes", 0.55)], [scored_critique("No", 0.45)], MARGIN),
        ([scored_critique("Yes", 0.9, mass=0.2)], [scored_critique("No", 0.1)], LABEL_MASS),
        ([ScoredCritique("Seen: a.", 0, 0)], [scored_critique("No", 0.1)], NO_JUDGEMENT),
        ([ScoredCritique("Judgement: Yes", math.nan, 0)], [scored_critique("No", 0.1)], NOT_FINITE),
        (
            [ScoredCritique("Seen: the reliable detectors saw a cat. Judgement: Yes", 0.9, 0.1)],
            [scored_critique("No", 0.1)],
            CITES_EXPERTS,
        ),
    ],
)
def test_each_rejected_pair_has_a_reason(plus: list[ScoredCritique], minus: list[ScoredCritique], outcome: str) -> None:
    assert select(Pair("p", GOOD, BAD, tuple(plus), tuple(minus)), SELECTION) == outcome


@pytest.mark.parametrize(
    ("plus", "minus", "learned"),
    [
        ([scored_critique("Yes", 0.9)], [scored_critique("Yes", 0.8)], (0.9, None)),
        ([scored_critique("No", 0.3)], [scored_critique("Yes", 0.8), scored_critique("No", 0.2)], (None, 0.2)),
        ([scored_critique("Yes", 0.9)], [scored_critique("No", 0.2)], (0.9, 0.2)),
        ([scored_critique("Yes", 0.55)], [scored_critique("No", 0.45)], MARGIN),
        ([scored_critique("No", 0.3)], [scored_critique("Yes", 0.8)], WRONG_CHOSEN),
    ],
)
def test_with_either_side_the_one_with_a_right_judgement_is_learned_alone(
    plus: list[ScoredCritique], minus: list[ScoredCritique], learned: tuple[float | None, float | None] | str
) -> None:
    rule = SELECTION.model_copy(update={"sides": "either"})
    found = select(Pair("p", GOOD, BAD, tuple(plus), tuple(minus)), rule)
    if isinstance(found, str):
        assert found == learned
    else:
        assert tuple(side and side.reward for side in (found.chosen, found.rejected)) == learned
        assert (found.margin is None) == (None in learned)


def test_the_pair_of_critiques_with_the_largest_margin_is_kept() -> None:
    pair = Pair(
        "p",
        GOOD,
        BAD,
        (scored_critique("Yes", 0.7), scored_critique("Yes", 0.9)),
        (scored_critique("No", 0.3), scored_critique("No", 0.2)),
    )
    selected = select(pair, SELECTION)
    assert isinstance(selected, SelectedPair)
    assert selected.margin == pytest.approx(0.7)


def test_among_equal_rewards_the_most_frequent_critique_is_kept() -> None:
    rare, common = (
        ScoredCritique("Check: one. Judgement: Yes", 0.999, 0.001),
        ScoredCritique("Check: two. Judgement: Yes", 0.998, 0.002),
    )
    selected = select(Pair("p", GOOD, BAD, (rare, common, common), (scored_critique("No", 0.1),)), SELECTION)
    assert isinstance(selected, SelectedPair)
    assert selected.chosen == common


def test_a_critique_that_broke_off_is_kept_only_if_there_is_no_other() -> None:
    cut = replace(scored_critique("Yes", 0.99), text="Check: the kettle on the. Judgement: Yes", asked=True)
    whole, no = scored_critique("Yes", 0.9), (scored_critique("No", 0.1),)
    first, second = (select(Pair("p", GOOD, BAD, plus, no), SELECTION) for plus in ((cut, whole), (cut,)))
    assert isinstance(first, SelectedPair)
    assert isinstance(second, SelectedPair)
    assert (first.chosen, second.chosen) == (whole, cut)


@pytest.mark.parametrize(
    "text", ["A smoke detector is on the ceiling.", "The detector at the gate is gray.", "A hint of blue."]
)
def test_detectors_in_the_image_may_be_described(text: str) -> None:
    critique = ScoredCritique(f"Seen: {text} Judgement: Yes", 0.9, 0.1)
    assert isinstance(select(Pair("p", GOOD, BAD, (critique,), (scored_critique("No", 0.1),)), SELECTION), SelectedPair)


@pytest.mark.parametrize(
    "text",
    [
        "The detectors list a dog.",
        "According to the detection results there is a dog.",
        "Based on the provided detections there is a dog.",
        "The given hint mentions a dog.",
        "The detected objects include a dog.",
        "The detector saw a dog.",
    ],
)
def test_critiques_that_cite_the_experts_are_not_learned(text: str) -> None:
    critique = ScoredCritique(f"Seen: {text} Judgement: Yes", 0.9, 0.1)
    rule = SELECTION.model_copy(update={"sides": "both"})
    assert select(Pair("p", GOOD, BAD, (critique,), (scored_critique("No", 0.1),)), rule) == CITES_EXPERTS


def test_the_margin_decides_about_single_sides_too() -> None:
    wrong, weak = (scored_critique("Yes", 0.95),), (scored_critique("No", 0.85),)
    strong, unsure = (scored_critique("Yes", 0.99),), (scored_critique("Yes", 0.3),)
    rule = SELECTION.model_copy(update={"margin": 0.2, "sides": "either"})
    for minus in (wrong, weak):  # a critique that judges rightly, though weakly, does not harm the other side
        selected = select(Pair("p", GOOD, BAD, strong, minus), rule)
        assert isinstance(selected, SelectedPair)
        assert (selected.chosen, selected.rejected) == (strong[0], None)
    assert select(Pair("p", GOOD, BAD, unsure, wrong), rule) == MARGIN
    assert select(Pair("p", GOOD, BAD, strong, weak), rule.model_copy(update={"sides": "both"})) == MARGIN


def test_keep_all_takes_the_first_critiques_whatever_their_judgement() -> None:
    pair = Pair(
        "p",
        GOOD,
        BAD,
        (scored_critique("No", 0.1), scored_critique("Yes", 0.9)),
        (scored_critique("Yes", 0.8), scored_critique("No", 0.2)),
    )
    selected = select(pair, SELECTION.model_copy(update={"margin": KEEP_ALL}))
    assert isinstance(selected, SelectedPair)
    assert (selected.chosen.reward, selected.rejected.reward) == (0.1, 0.8)


def test_self_labelling_ignores_the_experts() -> None:
    """Labels come from the reward model's scores, whatever the verdicts are."""
    high, low = (replace(c, reward=r) for c, r in ((BAD, 0.9), (GOOD, 0.2)))
    pairs, _ = pairing.make_pairs(PROMPT, [high, low, candidate("x", "unscored")], RULE_SELF)
    assert [(p.chosen, p.rejected) for p in pairs] == [(high, low)]


@pytest.mark.parametrize(
    "reason", [NO_JUDGEMENT, NOT_FINITE, LABEL_MASS, WRONG_CHOSEN, WRONG_REJECTED, CITES_EXPERTS, MARGIN, MASTERED]
)
def test_each_reason_to_drop_a_pair_is_documented(reason: str) -> None:
    table = OWN_DATA.read_text().partition("\n| select | a pair |")[2].partition("\n\n")[0]
    assert f"`{reason}`" in table


@pytest.mark.parametrize(("reason", "key"), [(CITES_EXPERTS, "critic.k"), (MASTERED, "selection.mastered")])
def test_pairs_that_are_dropped_for_what_their_critiques_say_have_a_remedy(reason: str, key: str) -> None:
    assert key in remedies.for_reason("select", reason)
