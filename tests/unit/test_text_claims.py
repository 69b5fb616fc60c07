"""Claims about written text, judged by how often the OCR reader was right on labelled images."""

import random

import pytest

from tests.unit.test_claim_tables import CLAIMS, S, U
from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.claim_tables import ReaderClaims
from vlrm_ray.experts.measured_judge import MeasuredJudge
from vlrm_ray.experts.text_matching import text_strength
from vlrm_ray.experts.text_measurement import measure_text_claims
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Finding, Noun, Verdict, Word


def word(text: str, score: float = 0.97, height: float = 24) -> Word:
    return Word(text, (10, 10, 90, 10 + height), score)


@pytest.mark.parametrize(("claimed", "read"), [
    ("Give Way!", ["GIVEWAY"]), ("cero emisiones", ["CERO", "Emisiones."]), ("Main St.", ["MAIN ST"]), ("CAFÉ", ["Cafe"]),
    ("1,000", ["1000"]), ("12:45", ["12:45 h"]), ("$3.50", ["3,50"]), ("2019", ["20 19"]),
])  # fmt: skip
def test_case_accents_punctuation_and_spaces_do_not_count(claimed: str, read: list[str]) -> None:
    assert text_strength(claimed, [word(t) for t in read])[0] == pytest.approx(0.97)


@pytest.mark.parametrize(("claimed", "read"), [
    ("STOP", "ST0P"), ("MAIN", "MAlN"), ("modern", "modem"), ("MAIL", "MALL"), ("DOCK", "CLOCK"), ("BURN", "BUM")
])  # fmt: skip
def test_words_that_differ_where_letters_look_alike_are_as_similar_as_with_one_other_letter(
    claimed: str, read: str
) -> None:
    longest = max(len(claimed), len(read))
    assert text_strength(claimed, [word(read)])[0] == pytest.approx(0.97 * (1 - 1 / longest) ** 2)


@pytest.mark.parametrize(("claimed", "read"), [
    ("19", "16"), ("6", "9"), ("3.5", "35"), ("150", "$1.50"), ("12:45", "1245"), ("5 pm", "S PM"), ("80", "BO"), ("3,5", "35"),
    ("1600", "16000"),
])  # fmt: skip
def test_numbers_are_compared_digit_by_digit(claimed: str, read: str) -> None:
    assert text_strength(claimed, [word(read)])[0] < 0.7


@pytest.mark.parametrize(
    ("claimed", "read"), [("STOP", "SHOP"), ("open", "opening hours"), ("exit", "taxi"), ("stop", "")]
)
def test_another_text_is_not_the_same(claimed: str, read: str) -> None:
    assert text_strength(claimed, [word(read)] if read else [])[0] < 0.8


def reader_images(missed: float, height: float = 24) -> list[LabelledEvidence]:
    rng, texts = random.Random(3), ["STOP", "EXIT", "OPEN", "HOTEL", "POLICE", "MARKET", "SCHOOL", "TAXI"]
    images = []
    for _ in range(200):
        shown = rng.sample(texts, 2)
        read = tuple(word(t, 0.95, height) for i, t in enumerate(shown) if i == 0 or rng.random() > missed)
        truth = Evidence(100, 100, words=tuple(word(t, 1.0, height) for t in shown))
        images.append(LabelledEvidence.of(Evidence(100, 100, words=read), truth, ()))
    return images


def text_finding(claims: ReaderClaims, text: str, *words: Word) -> Finding:
    found = MeasuredJudge(Evidence(100, 100, words=words), None, claims).judge(
        Claim(ClaimType.TEXT, Noun("sign"), text)
    )
    assert found is not None
    return found


def test_a_text_on_a_known_object_is_supported_only_if_it_was_read_there() -> None:
    texts = measure_text_claims(reader_images(0.0), 0.95)
    cars = (Detection("car", (100, 0, 200, 100), 0.9), Detection("car", (0, 0, 95, 60), 0.9))

    def verdict(carrier: str, *objects: Detection) -> tuple[Verdict, str]:
        image = Evidence(200, 100, objects, words=(word("STOP"),))
        found = MeasuredJudge(image, CLAIMS, texts).judge(Claim(ClaimType.TEXT, Noun(carrier), "stop"))
        assert found is not None
        return found.verdict, found.reason

    assert verdict("car", *cars) == (S, "")
    assert verdict("car", cars[0]) == (U, "read_elsewhere")
    assert verdict("car") == (U, "read_elsewhere")  # no car was found
    assert verdict("poster", cars[0]) == (S, "")  # the detector knows no posters


def test_a_height_that_was_not_measured_decides_nothing() -> None:
    small = measure_text_claims(reader_images(0.0, height=24), 0.95)
    assert text_finding(small, "stop", word("STOP", height=10)).verdict is U
