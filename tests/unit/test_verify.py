"""The verifier: verdicts on claims, given the evidence."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.types import NEVER_SUPPORTED, Claim, ClaimType, Detection, Evidence, Noun, Verdict, Word

EXTRACTOR = RuleExtractor()
VERIFIER = Verifier(Calibrations(exhaustive=frozenset({"circle", "square", "star", "sign"})))
EVIDENCE = Evidence(
    100, 100,
    objects=(
        Detection("circle", (5, 5, 25, 25), 0.95, "red"),
        Detection("square", (70, 10, 90, 30), 0.9, "blue"),
        Detection("square", (70, 70, 90, 90), 0.9, "green"),
        Detection("sign", (5, 60, 45, 80), 0.9, "white"),
    ),
    words=(Word("STOP", (8, 64, 42, 76), 0.97),),
)  # fmt: skip
S, C, U = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE
CASES = {
    "There is a red circle.": [S, S],
    "There is a blue circle.": [S, C],
    "There is a star.": [C],
    "There is no star.": [S],
    "There is no red circle.": [C],
    "There is a dog.": [U],
    "Perhaps there is a star.": [U],
    "There are two squares.": [S, S],
    "There are three squares.": [S, C],
    "There are more squares than circles.": [S],
    "There are fewer squares than circles.": [C],
    "The red circle is left of the blue square.": [S, S, S, S, S],
    "The red circle is right of the blue square.": [S, S, C, S, S],
    "The red circle is above the blue square.": [S, S, U, S, S],
    "The sign says STOP.": [S, S],
    "The sign says EXIT.": [C, S],
}


@pytest.mark.parametrize("sentence", CASES)
def test_verdicts(sentence: str) -> None:
    checked = [VERIFIER.check(claim, EVIDENCE) for claim in EXTRACTOR.claims(sentence)]
    assert [c.finding.verdict for c in checked] == CASES[sentence]


@pytest.mark.parametrize(("claim", "reason"), [
    (Claim(ClaimType.OBJECT, Noun("dog"), negated=True), NEVER_SUPPORTED),
    (Claim(ClaimType.COUNT, Noun("dog"), "1"), NEVER_SUPPORTED),
    (Claim(ClaimType.RELATION, Noun("dog"), "left_of", Noun("square"), negated=True), NEVER_SUPPORTED),
    (Claim(ClaimType.OBJECT, Noun("square"), negated=True), ""),
    (Claim(ClaimType.COUNT, Noun("square"), "3"), ""),
    (Claim(ClaimType.ATTRIBUTE, Noun("square"), "red"), ""),
    (Claim(ClaimType.OBJECT, Noun("star")), "not_detected"),
    (Claim(ClaimType.OBJECT, Noun("star", ("striped",))), NEVER_SUPPORTED),
])  # fmt: skip
def test_a_contradicted_claim_that_is_never_supported_is_marked(claim: Claim, reason: str) -> None:
    """The detector may miss dogs, so that no denial of a dog and no number of dogs is ever supported."""
    dogs = tuple(Detection("dog", (x, 30, x + 10, 40), 0.95, "brown") for x in (10, 30))
    found = VERIFIER.check(claim, Evidence(100, 100, (*dogs, *EVIDENCE.objects[1:3]))).finding
    assert (found.verdict, found.reason) == (C, reason)


def test_no_person_contradicts_a_man_whom_the_detector_would_never_show() -> None:
    verifier = Verifier(Calibrations(exhaustive=frozenset({"person"})))
    found = verifier.check(Claim(ClaimType.OBJECT, Noun("man")), Evidence(100, 100)).finding
    assert (found.verdict, found.reason) == (C, NEVER_SUPPORTED)
    open_vocabulary = Verifier(Calibrations(exhaustive=frozenset({"person"}), classes=frozenset({"person", "man"})))
    found = open_vocabulary.check(Claim(ClaimType.OBJECT, Noun("man")), Evidence(100, 100)).finding
    assert (found.verdict, found.reason) == (C, "not_detected")


def test_a_finding_cites_its_evidence() -> None:
    (_, color) = [VERIFIER.check(c, EVIDENCE) for c in EXTRACTOR.claims("There is a green square.")]
    assert color.finding.objects == (2,)
    assert color.finding.confidence == 0.9


def verdict(evidence: Evidence, kind: ClaimType, subject: str, value: str | None = None, other: str = "") -> Verdict:
    claim = Claim(kind, Noun(subject), value, Noun(other) if other else None)
    return VERIFIER.check(claim, evidence).finding.verdict


def with_objects(*objects: Detection) -> Evidence:
    return Evidence(100, 100, objects)


RED, DUPLICATE, STAR = (
    Detection("circle", (10, 10, 40, 40), 0.9, "red"),
    Detection("circle", (11, 10, 41, 41), 0.8, "red"),
    Detection("star", (10, 11, 40, 41), 0.7, "red"),
)


def test_only_what_is_certain_is_told_to_the_writer_of_a_critique() -> None:
    square, read, misread = EVIDENCE.objects[1], EVIDENCE.words[0], Word("5TOP", (50, 50, 60, 60), 0.6)
    evidence = Evidence(100, 100, (RED, square, STAR), (read, misread))
    assert VERIFIER.certain(evidence) == Evidence(100, 100, (square,), (read,))


def test_crowds_are_not_counted() -> None:
    crowd = with_objects(*(Detection("circle", (i * 9, 0, i * 9 + 8, 8), 0.9, "red") for i in range(9)))
    assert verdict(crowd, ClaimType.COUNT, "circle", "9") is U


def test_an_object_detected_twice_is_counted_once() -> None:
    assert verdict(with_objects(RED, DUPLICATE), ClaimType.COUNT, "circle", "1") is S
    assert verdict(with_objects(RED, DUPLICATE), ClaimType.COUNT, "circle", "2") is C


def test_near_duplicates_may_be_one_object_or_two() -> None:
    inner = Detection("circle", (10, 10, 30, 30), 0.8, "red")
    assert verdict(with_objects(RED, inner), ClaimType.COUNT, "circle", "1") is U
    assert verdict(with_objects(RED, inner), ClaimType.COUNT, "circle", "2") is U
    assert verdict(with_objects(RED, inner), ClaimType.COUNT, "circle", "3") is C


@pytest.mark.parametrize("objects", [(RED, STAR), (Detection("circle", RED.box, 0.9, "red", rival="star"),)])
def test_two_classes_in_one_place_are_both_unverifiable(objects: tuple[Detection, ...]) -> None:
    assert verdict(with_objects(*objects), ClaimType.OBJECT, "circle") is U
    assert verdict(with_objects(*objects), ClaimType.OBJECT, "star") is U
    assert verdict(with_objects(*objects), ClaimType.OBJECT, "square") is C


def test_a_faint_box_supports_no_claim_but_prevents_a_claim_of_absence() -> None:
    faint_star = Evidence(100, 100, faint=(Detection("star", (1, 1, 20, 20), 0.2),))
    assert verdict(faint_star, ClaimType.OBJECT, "star") is U
    assert verdict(faint_star, ClaimType.OBJECT, "circle") is C


def test_a_sign_is_not_absent_if_a_word_was_read_outside_all_objects() -> None:
    word_only = Evidence(100, 100, words=(Word("STOP", (8, 64, 42, 76), 0.97),))
    assert verdict(word_only, ClaimType.OBJECT, "sign") is U
    assert verdict(word_only, ClaimType.OBJECT, "star") is C


def test_text_is_not_contradicted_if_no_word_was_read() -> None:
    no_words = Evidence(100, 100, EVIDENCE.objects)
    assert verdict(no_words, ClaimType.TEXT, "sign", "EXIT") is U


@pytest.mark.parametrize(
    ("claimed", "read", "expected"),
    [
        ("STOP", "Stop", S),
        ("STOP", "SHOP", U),  # one letter of four: another word or an OCR error
        ("STOP", "EXIT", C),
        ("RESTAURANT", "RESTAURAMT", S),  # one OCR error in ten letters
        ("GRAND HOTEL", "HOTEL GRAND", S),
        ("GRAND HOTEL", "GRAND CAFE", U),
        ("出口", "出口", S),
    ],
)
def test_texts_match_by_edit_distance_with_a_threshold_per_length(claimed: str, read: str, expected: Verdict) -> None:
    evidence = Evidence(100, 100, EVIDENCE.objects, (Word(read, (8, 64, 42, 76), 0.99),))
    assert verdict(evidence, ClaimType.TEXT, "sign", claimed) is expected


@pytest.mark.parametrize(
    ("name", "box", "expected"),
    [
        ("left_of", (60, 10, 90, 40), S), ("right_of", (60, 10, 90, 40), C), ("left_of", (14, 60, 44, 90), U),
        ("above", (10, 60, 40, 90), S), ("below", (10, 60, 40, 90), C),
        ("next_to", (45, 10, 75, 40), S), ("next_to", (90, 10, 99, 40), C),
        ("in", (5, 5, 60, 60), S), ("in", (60, 60, 90, 90), C),
        ("on", (10, 40, 40, 70), S), ("on", (70, 70, 90, 90), C),
        ("under", (10, 60, 40, 90), C), ("behind", (60, 10, 90, 40), U),
    ],
)  # fmt: skip
def test_spatial_relations(name: str, box: tuple[float, float, float, float], expected: Verdict) -> None:
    evidence = with_objects(RED, Detection("square", box, 0.9, "blue"))
    assert verdict(evidence, ClaimType.RELATION, "circle", name, "square") is expected


def test_attributes_and_quantities_that_no_expert_measures_are_unverifiable() -> None:
    assert verdict(EVIDENCE, ClaimType.ATTRIBUTE, "circle", "wooden") is U
    assert verdict(EVIDENCE, ClaimType.STATE, "circle", "standing") is U
    assert verdict(EVIDENCE, ClaimType.STATE, "star", "standing") is U
    assert VERIFIER.check(Claim(ClaimType.OBJECT, Noun("circle", ("wooden",))), EVIDENCE).finding.verdict is U
    assert verdict(EVIDENCE, ClaimType.COUNT, "circle", "several") is U


def test_threads_share_a_verifier() -> None:
    (claim,), shared = EXTRACTOR.claims("There is a star."), Verifier(VERIFIER.calibrations)
    seen = {with_objects(STAR): S, with_objects(): C}

    def checks(evidence: Evidence) -> list[Verdict]:
        return [shared.check(claim, evidence).finding.verdict for _ in range(4000)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns all the time
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(checks, [*seen] * 2))
    finally:
        sys.setswitchinterval(interval)
    assert [set(verdicts) for verdicts in found] == [{v} for v in seen.values()] * 2
