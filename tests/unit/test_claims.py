"""From sentences to claims, as a reader would list them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.types import Claim

EXTRACTOR = RuleExtractor()


def spelled(claim: Claim) -> str:
    parts = [str(claim.subject), claim.value or "", str(claim.object or "")]
    marks = ("not " if claim.negated else "") + ("maybe " if claim.hedged else "")
    return marks + f"{claim.type.value}: " + " ".join(p for p in parts if p)


CASES = {
    "There is a red circle.": ["object: circle", "attribute: circle red"],
    "There is no red circle.": ["not attribute: circle red"],
    "There is no dog.": ["not object: dog"],
    "There isn't a dog.": ["not object: dog"],
    "There are two circles.": ["object: circle", "count: circle 2"],
    "There are no circles.": ["not object: circle"],
    "A red circle and two blue squares.": ["object: circle", "attribute: circle red", "object: square", "attribute: square blue", "count: blue square 2"],
    "The circle is red.": ["object: circle", "attribute: circle red"],
    "The circle is not red.": ["object: circle", "not attribute: circle red"],
    "There is only one star and it is yellow.": ["object: star", "count: star 1", "attribute: star yellow"],
    "There are more circles than squares.": ["count: circle more square"],
    "There are as many circles as squares.": ["count: circle as_many square"],
    "The star is left of the circle and above the square.": [
        "object: star", "relation: star left_of circle", "relation: star above square", "object: circle", "object: square",
    ],
    "The sign says STOP.": ["text: sign STOP", "object: sign"],
    'The sign reads "no parking".': ["text: sign no parking", "object: sign"],
    "Perhaps there is a cat.": ["maybe object: cat"],
    "Three women and a puppy.": ["object: woman", "count: woman 3", "object: puppy"],
    "": [],
}  # fmt: skip


@pytest.mark.parametrize("sentence", CASES)
def test_sentence_says(sentence: str) -> None:
    assert [spelled(c) for c in EXTRACTOR.claims(sentence)] == CASES[sentence]


@pytest.mark.parametrize(
    ("answer", "claims"), [("Yes.", ["attribute: circle red"]), ("No", ["not attribute: circle red"])]
)
def test_a_bare_answer_asserts_or_denies_its_question(answer: str, claims: list[str]) -> None:
    assert [spelled(c) for c in EXTRACTOR.claims(answer, "Is there a red circle?")] == claims


@given(st.text(max_size=400))
def test_any_text_gives_claims_whose_spans_lie_in_it(text: str) -> None:
    for claim in EXTRACTOR.claims(text):
        assert 0 <= claim.span[0] <= claim.span[1] <= len(text)


def test_a_megabyte_of_text_is_read_up_to_a_limit() -> None:
    assert EXTRACTOR.claims("There is a red circle. " * 50_000)
