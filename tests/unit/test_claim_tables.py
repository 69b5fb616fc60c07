"""Verdicts from measured probabilities: tables of claims by the strength of their evidence, and what they decide."""

import random
from dataclasses import replace

import pytest

from tests.unit.simulated_objects import CLAIMS, CLASSES, C, S, U, box, finding, seen, simulated
from vlrm_ray.experts.calibration import DetectorCalibration
from vlrm_ray.experts.claim_measurement import measure_object_claims
from vlrm_ray.experts.claim_tables import ClaimTable, DetectorClaims
from vlrm_ray.experts.measured_judge import Answer, MeasuredJudge
from vlrm_ray.experts.reliability import AssessedEvidence, Calibrations
from vlrm_ray.experts.score_calibration import Proportion, ScoreCalibration
from vlrm_ray.experts.strengths import MOST_COUNTED, Strengths, classes_of
from vlrm_ray.experts.verifier import Verifier, judge
from vlrm_ray.types import NEVER_SUPPORTED, Claim, ClaimType, Detection, Evidence, Noun, Verdict, Word


def calibrated(claims: DetectorClaims) -> DetectorCalibration:
    return DetectorCalibration(
        "", 600, {}, ScoreCalibration(), Proportion(), (0, 1), (0, 1), crowd=3, image_sides=(100, 300), claims=claims
    )


# --- tables -------------------------------------------------------------------------------------


def test_probability_rises_with_the_strength_and_true_and_false_claims_weigh_the_same() -> None:
    rng = random.Random(1)
    answers = [(min(1, max(0, rng.gauss(0.7, 0.2))), True) for _ in range(100)]
    answers += [(min(1, max(0, rng.gauss(0.3, 0.2))), False) for _ in range(5000)]
    table = ClaimTable.of(answers)
    curve = [table.probability(i / 50) for i in range(51)]
    assert curve == sorted(curve)
    assert table.probability(0.5) == pytest.approx(0.5, abs=0.2)
    assert table.probability(0.02) < 0.05 < 0.95 < table.probability(0.98)


def test_a_small_sample_decides_nothing_by_its_bounds() -> None:
    few, many = (ClaimTable.of([(0.9, True), (0.0, False)] * n) for n in (20, 200))
    assert few.probability(0.9) > 0.95 and not few.supports(0.9, 0.95)
    assert many.supports(0.9, 0.95) and many.contradicts(0.0, 0.95)
    assert not many.supports(0.0, 0.95) and not many.contradicts(0.9, 0.95)


def test_claims_about_the_same_object_count_once_in_the_bounds() -> None:
    answers = [(0.9, True), (0.0, False)] * 200
    assert ClaimTable.of(answers, 1.0).supports(0.9, 0.97)
    assert not ClaimTable.of(answers, 20.0).supports(0.9, 0.97)


def test_false_claims_about_the_same_thing_count_once_as_well() -> None:
    """That none of two backgrounds looks like an orange says little about others, in however many images they are."""
    answers = [(0.9, True), (0.0, False)] * 200
    one_by_one, repeated = ClaimTable.of(answers), ClaimTable.of(answers, false_repeats=20.0)
    assert one_by_one.supports(0.9, 0.97) and not repeated.supports(0.9, 0.97)
    assert one_by_one.probability(0.9) > 0.99 > repeated.probability(0.9)
    assert not ClaimTable.of(answers[:100], false_repeats=20.0).measured


def test_missed_objects_forbid_absence_and_not_support() -> None:
    answers = [(0.0, True)] * 60 + [(0.8, True)] * 140 + [(0.0, False)] * 2000
    table = ClaimTable.of(answers)
    assert table.supports(0.8, 0.95) and not table.contradicts(0.0, 0.95)
    assert 1 - table.probability(0.0) == pytest.approx(1 / 1.3, abs=0.01)


# --- objects, counts, relations, colors ---------------------------------------------------------


def test_a_faint_box_is_evidence_of_a_measured_strength() -> None:
    claim = Claim(ClaimType.OBJECT, Noun("cat"))
    assert finding(claim, seen(("cat", 0.9))).verdict is S
    assert finding(claim, seen(("dog", 0.9))).verdict is C
    faint = finding(Claim(ClaimType.COUNT, Noun("dog"), "1"), seen(("dog", 0.9), ("cat", 0.1)))
    assert faint.verdict is S  # a faint box of another class is no veto
    assert (
        finding(
            claim, seen(("dog", 0.9), ("cat", 0.3)), measure_object_claims(simulated(0, noise=0.6), 0.95, 20)
        ).verdict
        is U
    )


def test_counts_follow_from_the_boxes_and_the_measured_misses() -> None:
    two = seen(("cat", 0.9), ("cat", 0.8))
    verdicts = {n: finding(Claim(ClaimType.COUNT, Noun("cat"), str(n)), two).verdict for n in (1, 2, 5, MOST_COUNTED)}
    assert verdicts == {1: C, 2: S, 5: C, MOST_COUNTED: U}
    poor = measure_object_claims(simulated(0, missed=0.3), 0.95, 20)
    assert finding(Claim(ClaimType.COUNT, Noun("cat"), "2"), two, poor).verdict is U


def test_the_numbers_are_a_distribution() -> None:
    numbers = Strengths(seen(("cat", 0.9), ("cat", 0.4), ("cat", 0.1)), CLAIMS).numbers(Noun("cat"))
    assert len(numbers) == MOST_COUNTED + 1 and sum(numbers) == pytest.approx(1)


def test_a_comparison_of_two_counts() -> None:
    image = seen(("cat", 0.9), ("cat", 0.9), ("dog", 0.9))
    for value, verdict in (("more", S), ("fewer", C), ("as_many", C)):
        claim = Claim(ClaimType.COUNT, Noun("cat"), value, Noun("dog"))
        assert finding(claim, image).verdict is verdict


def test_relations_hold_for_the_boxes() -> None:
    image = seen(("cat", 0.9), ("dog", 0.9))
    for value, verdict in (("left_of", S), ("right_of", C), ("above", U), ("behind", U)):
        claim = Claim(ClaimType.RELATION, Noun("cat"), value, Noun("dog"))
        assert finding(claim, image).verdict is verdict, value
    assert finding(Claim(ClaimType.RELATION, Noun("cat"), "left_of", Noun("car")), image).reason == "not_detected"


def test_in_an_image_unlike_the_calibration_no_number_is_known() -> None:
    image, problem = seen(("cat", 0.9), ("cat", 0.9), ("dog", 0.9)), {"image_problem": "image_too_large"}
    for number in ("1", "2", "3"):
        found = finding(Claim(ClaimType.COUNT, Noun("cat"), number), image, **problem)
        assert (found.verdict, found.reason) == (U, "image_too_large")
    more = Claim(ClaimType.COUNT, Noun("cat"), "more", Noun("dog"))
    assert (finding(more, image).verdict, finding(more, image, **problem).verdict) == (S, U)


def test_numbers_that_may_be_too_high_to_be_known_are_not_compared() -> None:
    cats = [Detection("cat", box(50.0 * i, 0), 0.9) for i in range(12)]
    dogs = [Detection("dog", box(50.0 * i, 90), 0.9) for i in range(9)]
    many = Evidence(640, 480, (*cats, *dogs))
    for value in ("more", "fewer", "as_many"):
        assert finding(Claim(ClaimType.COUNT, Noun("cat"), value, Noun("dog")), many).reason == "crowd"


def test_comparisons_that_were_not_measured_stay_open() -> None:
    image, unmeasured = seen(("cat", 0.9), ("cat", 0.9), ("dog", 0.9)), replace(CLAIMS, comparisons=ClaimTable())
    assert finding(Claim(ClaimType.COUNT, Noun("cat"), "more", Noun("dog")), image, unmeasured).verdict is U


@pytest.mark.parametrize("objects", [1, 4, 6])
def test_a_relation_that_fails_for_each_pair_is_not_supported_by_their_number(objects: int) -> None:
    column = [Detection("cat", (100, 30.0 * i, 120, 30.0 * i + 20), 0.93) for i in range(objects)]
    column += [Detection("dog", (80, 30.0 * i, 100, 30.0 * i + 20), 0.93) for i in range(objects)]
    claim = Claim(ClaimType.RELATION, Noun("cat"), "left_of", Noun("dog"))
    assert finding(claim, Evidence(240, 180, tuple(column))).verdict is not S


@pytest.mark.parametrize("negated", [False, True])
def test_unclear_pairs_decide_neither_a_relation_nor_its_negation(negated: bool) -> None:
    dogs = [Detection("dog", (10.0 + 40 * i, 60, 45.0 + 40 * i, 150), 0.93) for i in range(4)]
    image = Evidence(240, 180, (Detection("car", (0, 40, 200, 170), 0.93), *dogs))
    assert finding(Claim(ClaimType.RELATION, Noun("dog"), "on", Noun("car"), negated=negated), image).verdict is U


def test_a_clear_relation_of_supported_objects_is_decided_however_high_their_scores_are() -> None:
    for score in (0.95, 0.7, 0.5):
        image = seen(("cat", score), ("dog", score))
        verdicts = [
            finding(Claim(ClaimType.RELATION, Noun("cat"), value, Noun("dog")), image).verdict
            for value in ("left_of", "right_of")
        ]
        assert verdicts == [S, C], score


def test_a_faint_box_does_not_support_a_relation_but_prevents_its_contradiction() -> None:
    faint = Detection("dog", box(0, 0), 0.3)
    image = Evidence(240, 180, (Detection("cat", box(60, 0), 0.9), Detection("dog", box(120, 0), 0.9)), faint=(faint,))
    claims = replace(CLAIMS, boxes=measure_object_claims(simulated(0, noise=0.0), 0.95, 20).boxes)
    right = Claim(ClaimType.RELATION, Noun("cat"), "right_of", Noun("dog"))
    assert finding(right, replace(image, faint=()), claims).verdict is C
    assert finding(right, image, claims).verdict is U


def test_the_confidence_of_a_relation_counts_that_of_its_objects() -> None:
    sure, doubtful = (seen(("cat", score), ("dog", 0.9)) for score in (0.95, 0.45))
    claim = Claim(ClaimType.RELATION, Noun("cat"), "left_of", Noun("dog"))
    objects = [finding(Claim(ClaimType.OBJECT, Noun(name)), doubtful).confidence for name in ("cat", "dog")]
    assert finding(claim, doubtful).confidence <= objects[0] * objects[1] + 0.0001
    assert finding(claim, sure).confidence >= finding(claim, doubtful).confidence


@pytest.mark.parametrize(("x", "value", "verdict"), [
    (0, "left_of", S), (180, "left_of", U), (100, "left_of", U), (180, "right_of", S), (0, "in_middle", U)
])  # fmt: skip
def test_the_side_of_the_image_that_an_object_is_on_as_another_one_may_be_meant_nothing_is_contradicted(
    x: float, value: str, verdict: Verdict
) -> None:
    image = Evidence(240, 180, (Detection("cat", box(x, 0), 0.9),))
    assert finding(Claim(ClaimType.RELATION, Noun("cat"), value), image).verdict is verdict


def test_a_number_is_contradicted_by_more_or_fewer_objects() -> None:
    three = seen(*[("cat", 0.9)] * 3)
    assert [finding(Claim(ClaimType.COUNT, Noun("cat"), str(n)), three).verdict for n in (1, 2, 3, 4, 6)] == [
        C,
        C,
        S,
        C,
        C,
    ]
    animals = [finding(Claim(ClaimType.COUNT, Noun("animal"), str(n)), three).verdict for n in (2, 4)]
    assert animals == [C, U]  # there may be animals that the detector does not know
    blind = replace(CLAIMS, fewer=ClaimTable())
    assert [finding(Claim(ClaimType.COUNT, Noun("cat"), str(n)), three, blind).verdict for n in (2, 4)] == [C, U]


def test_of_two_claims_that_may_contradict_a_number_each_must_be_more_certain() -> None:
    table = ClaimTable.of([(0.9, True), (0.0, False)] * 40)
    assert table.supports(0.9, 0.95) and not table.supports(0.9, 0.975)
    one, two = (Answer(0.0, ClaimTable(), against=((0.9, table),) * number) for number in (1, 2))
    assert (one.finding(0.95).verdict, two.finding(0.95).verdict) == (C, U)


def test_a_person_neither_proves_nor_denies_a_man_and_no_person_denies_one() -> None:
    claim = Claim(ClaimType.OBJECT, Noun("man"))
    assert finding(claim, seen(("person", 0.9))).reason == "detector_knows_only_person"
    assert finding(claim, seen(("cat", 0.9))).verdict is C
    men = Claim(ClaimType.COUNT, Noun("man"), "3")
    assert finding(men, seen(("person", 0.9))).verdict is C
    assert finding(men, seen(("person", 0.9), ("person", 0.9), ("person", 0.9))).verdict is U


def test_a_broader_noun_is_supported_by_its_classes_and_not_denied() -> None:
    claim = Claim(ClaimType.OBJECT, Noun("animal"))
    assert classes_of("animal", CLASSES).kind == "broader"
    assert finding(claim, seen(("cat", 0.9))).verdict is S
    assert finding(claim, seen(("car", 0.9))).verdict is U


def test_an_object_that_is_seen_too_faintly_is_not_said_to_be_missed() -> None:
    """The class was measured on few objects, so that it may not be called absent."""
    few = replace(CLAIMS, seen={**CLAIMS.seen, "cat": 0})
    claim = Claim(ClaimType.OBJECT, Noun("cat"))
    assert finding(claim, seen(("cat", 0.12)), few).reason == "too_weak_evidence"
    assert finding(claim, seen(("dog", 0.9)), few).reason == "detector_may_miss_it"


def test_a_contradicted_claim_that_is_never_supported_is_marked() -> None:
    """Of such a noun every denial, or every claim, would be contradicted or open."""
    cats, none = seen(("cat", 0.9), ("dog", 0.9)), seen(("car", 0.9))
    unknown = replace(CLAIMS, seen={**CLAIMS.seen, "cat": 0})

    def reason(claim: Claim, image: Evidence, claims: DetectorClaims = CLAIMS) -> str:
        found = judge(claim, AssessedEvidence(image, Calibrations(calibrated(claims))))
        assert found.verdict is C
        return found.reason

    no_cat, no_animal = (Claim(ClaimType.OBJECT, Noun(noun), negated=True) for noun in ("cat", "animal"))
    assert [reason(no_cat, cats), reason(no_cat, cats, unknown), reason(no_animal, cats)] == [
        "", NEVER_SUPPORTED, NEVER_SUPPORTED,
    ]  # fmt: skip
    assert reason(Claim(ClaimType.OBJECT, Noun("cat")), none) == "not_detected"
    assert reason(Claim(ClaimType.OBJECT, Noun("man")), none) == NEVER_SUPPORTED
    assert reason(Claim(ClaimType.OBJECT, Noun("cat", ("striped",))), none) == NEVER_SUPPORTED
    assert reason(Claim(ClaimType.COUNT, Noun("animal"), "1"), cats) == NEVER_SUPPORTED
    assert reason(Claim(ClaimType.COUNT, Noun("cat"), "3"), cats) == ""
    left = Claim(ClaimType.RELATION, Noun("cat"), "left_of", Noun("dog"), negated=True)
    assert reason(left, cats) == ""
    no_colors, no_counts = replace(CLAIMS, colors=ClaimTable()), replace(CLAIMS, counts=ClaimTable())
    assert reason(Claim(ClaimType.OBJECT, Noun("cat", ("red",))), none, no_colors) == NEVER_SUPPORTED
    assert reason(Claim(ClaimType.COUNT, Noun("cat"), "3"), cats, no_counts) == NEVER_SUPPORTED
    hopeless = ClaimTable.of([(0.9, False), (0.9, True)] * 200 + [(0.0, False)] * 400)  # half of the boxes are wrong
    assert reason(
        Claim(ClaimType.OBJECT, Noun("cat")), none, replace(CLAIMS, objects={**CLAIMS.objects, "cat": hopeless})
    ) == (NEVER_SUPPORTED)


def test_the_writer_of_a_critique_is_told_what_verdicts_rest_on() -> None:
    verifier = Verifier(Calibrations(calibrated(CLAIMS)))
    pair = (Detection("cat", (60, 60, 120, 120), 0.93), Detection("cat", (70, 70, 120, 130), 0.9))
    unsure = Detection("cat", box(0, 0), 0.93, rival="dog")
    for image in (Evidence(240, 180, pair), Evidence(240, 180, (unsure,)), seen(("dog", 0.12))):
        numbers = verifier.check_all([Claim(ClaimType.COUNT, Noun("cat"), str(n)) for n in (1, 2)], image)
        supported = [int(c.claim.value or 0) for c in numbers if c.finding.verdict is S]
        assert len(verifier.certain(image).objects) == sum(supported)


def test_a_noun_that_was_not_measured_is_left_to_other_rules() -> None:
    assert MeasuredJudge(seen(), CLAIMS, None).judge(Claim(ClaimType.OBJECT, Noun("zebra"))) is None
    assert MeasuredJudge(seen(), None, None).judge(Claim(ClaimType.OBJECT, Noun("cat"))) is None


def test_in_an_image_unlike_the_calibration_nothing_is_concluded_from_what_is_missing() -> None:
    claim = Claim(ClaimType.OBJECT, Noun("cat"))
    assert (
        finding(claim, seen(("dog", 0.9)), image_problem="image_unlike_calibration").reason
        == "image_unlike_calibration"
    )
    assert finding(claim, seen(("cat", 0.9)), image_problem="image_unlike_calibration").verdict is S
    assert finding(claim, seen(("cat", 0.9)), image_problem="image_too_small", too_small=True).verdict is U


def test_absence_is_not_concluded_in_a_crowd_nor_beside_text_that_lies_on_no_object() -> None:
    claims = replace(CLAIMS, images=CLAIMS.images | {"stop sign": 600}, seen=CLAIMS.seen | {"stop sign": 600})
    detector = calibrated(claims)

    def judged(noun: str, evidence: Evidence) -> tuple[Verdict, str]:
        found = judge(Claim(ClaimType.OBJECT, Noun(noun)), AssessedEvidence(evidence, Calibrations(detector)))
        return found.verdict, found.reason

    few, crowd = seen(*[("car", 0.9)] * 3), seen(*[("car", 0.9)] * 4)
    assert judged("dog", few) == (C, "not_detected") and judged("dog", crowd) == (U, "crowd")
    assert judged("car", crowd)[0] is S
    assert judged("stop sign", few) == (C, "not_detected")
    with_text = replace(few, words=(Word("STOP", (200, 150, 230, 170), 0.9),))
    assert judged("stop sign", with_text) == (U, "experts_disagree") and judged("dog", with_text)[0] is C


def test_stated_confidences_are_kept_on_other_images() -> None:
    """Of the decided claims about images that were not measured, at least as many are right as stated."""
    decided, claims = [], measure_object_claims(simulated(1, missed=0.03, noise=0.3), 0.95, 20)
    for image in simulated(2, missed=0.03, noise=0.3):
        for name in CLASSES:
            n = image.counts.get(name, 0)
            asked = [(Claim(ClaimType.OBJECT, Noun(name)), n > 0)]
            asked += [(Claim(ClaimType.COUNT, Noun(name), str(m)), m == n) for m in (n, n + 1) if m]
            for claim, true in asked:
                found = finding(claim, image.detected, claims)
                if found.verdict is not U:
                    decided.append((found.confidence, (found.verdict is S) is true))
    right = sum(r for _, r in decided) / len(decided)
    assert len(decided) > 3000 and right >= 0.97
    assert abs(right - sum(c for c, _ in decided) / len(decided)) <= 0.02


def test_a_number_below_that_of_the_boxes_is_never_supported() -> None:
    two = seen(("cat", 0.9), ("cat", 0.6))
    tables = replace(CLAIMS, counts=ClaimTable.of([(0.01 * i, i > 5) for i in range(100)] * 20))  # supports any number
    assert finding(Claim(ClaimType.COUNT, Noun("cat"), "2"), two, tables).verdict is S
    assert finding(Claim(ClaimType.COUNT, Noun("cat"), "1"), two, tables).verdict is not S


def test_a_supported_object_is_seen_in_a_box_even_if_its_boxes_are_often_wrong() -> None:
    doubtful = replace(CLAIMS, boxes=ScoreCalibration())
    found = finding(Claim(ClaimType.OBJECT, Noun("cat")), seen(("dog", 0.4), ("cat", 0.9)), doubtful)
    assert (found.verdict, found.objects) == (S, (1,))
