"""The scope of operators: which parts of a sentence assert something, and of what."""

from pathlib import Path

import pytest

from tests.unit.test_claims import EXTRACTOR, notation
from vlrm_ray.scenes.hard_statement_quality import read_statements, summary

REPORTED = Path(__file__).parents[1] / "data" / "cases" / "claims.yaml"

NEGATION = {
    "No person is visible.": ["not object: person"],
    "There is no one in the image.": ["not object: person"],
    "There is neither a dog nor a cat.": ["not object: dog", "not object: cat"],
    "Not all circles are red.": ["maybe object: circle", "not maybe attribute: circle red"],
    "Not every circle is red.": ["not maybe object: circle"],
    "One circle is not red.": ["maybe object: circle", "maybe count: circle 1", "not maybe attribute: circle red"],
    "None of the circles are red.": ["object: circle", "not attribute: circle red"],
    "No circle is red.": ["not attribute: circle red"],
    "There is no red circle left of the star.": ["object: star", "not relation: red circle left_of star"],
    "The circle is not red but blue.": ["object: circle", "not attribute: circle red", "attribute: circle blue"],
    "The picture is not without a star.": ["object: star"],
}  # fmt: skip
EXCEPTIONS = {
    "There are no circles other than the red one.": ["object: circle", "count: circle 1", "attribute: circle red"],
    "Apart from the red circle, there are no circles.": ["object: circle", "count: circle 1", "attribute: circle red"],
    "No circles but one are visible.": ["not maybe object: circle"],
    "There is nothing but a star.": ["object: star"],
    "Unlike the circle, the square is blue.": ["maybe object: circle", "object: square", "attribute: square blue"],
}  # fmt: skip
NOT_ASSERTED = {
    "A star may be in the image.": ["maybe object: star"],
    "A star is possibly in the image.": ["maybe object: star"],
    "Two stars can perhaps be seen.": ["maybe object: star", "maybe count: star 2"],
    "The star is probably yellow.": ["object: star", "maybe attribute: star yellow"],
    "If there were a green star, it would be next to the circle.": ["maybe object: star", "maybe attribute: star green", "maybe relation: green star next_to circle", "maybe object: circle"],
    "There used to be a green star here.": ["maybe object: star", "maybe attribute: star green"],
    "It is not clear whether there is a green star.": ["maybe object: star", "maybe attribute: star green"],
    "I can't see whether there is a green star.": ["not maybe attribute: star green"],
    "I cannot see if the star is green.": ["maybe object: star", "not maybe attribute: star green"],
    "Let me see if there is a star.": ["maybe object: star"],
    "Imagine a red star next to the circle.": ["maybe object: star", "maybe attribute: star red", "maybe relation: red star next_to circle", "maybe object: circle"],
    "Look for a red star.": ["maybe object: star", "maybe attribute: star red"],
    "There is a dog or a cat.": ["maybe object: dog", "maybe object: cat"],
    "Stars are usually yellow.": ["maybe object: star", "maybe attribute: star yellow"],
}  # fmt: skip
STATEMENTS_ABOUT_STATEMENTS = {
    "It is not true that there is a green star.": ["not attribute: star green"],
    "The claim that there is a green star is false.": ["not attribute: star green"],
    "It would be wrong to say that there is a green star.": ["not attribute: star green"],
    "It cannot be denied that there is a star.": ["object: star"],
    "I can confirm that there is a dog.": ["object: dog"],
    "Someone might say that there is a dog, but there is none.": ["maybe object: dog", "not object: dog"],
    "There is a cat. Wait, that is wrong. There is a dog.": ["maybe object: cat", "object: dog"],
}  # fmt: skip
LISTS = {
    "Circles: 1, squares: 2": ["object: circle", "count: circle 1", "object: square", "count: square 2"],
    "A circle (red) and a square (blue).": ["object: circle", "attribute: circle red", "object: square", "attribute: square blue"],
    "- a red circle\n- two squares (blue)": ["object: circle", "attribute: circle red", "object: square", "count: blue square 2", "attribute: square blue"],
}  # fmt: skip
NUMBERS = {
    "There are 2-3 squares.": ["object: square"],
    "There are between one and three circles.": ["object: circle"],
    "There are at least two stars.": ["object: star"],
    "There are at most two stars.": ["maybe object: star"],
    "There are about three stars.": ["object: star", "maybe count: star 3"],
    "Two of the three stars are yellow.": ["object: star", "maybe count: star 3", "attribute: star yellow"],
    "Most of the stars are yellow.": ["maybe object: star", "maybe attribute: star yellow"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "claims"),
    [*NEGATION.items(), *EXCEPTIONS.items(), *NOT_ASSERTED.items(), *STATEMENTS_ABOUT_STATEMENTS.items(), *LISTS.items(), *NUMBERS.items()],
)  # fmt: skip
def test_claims_have_the_scope_of_their_operators(text: str, claims: list[str]) -> None:
    assert sorted(map(notation, EXTRACTOR.claims(text))) == sorted(claims)


def test_a_claim_of_a_rewritten_clause_spans_the_words_that_it_stands_for() -> None:
    text = "Yes. It is not true that there is a dog. There is a cat."
    spans = {notation(c): text[slice(*c.span)] for c in EXTRACTOR.claims(text)}
    assert spans["not object: dog"] == "It is not true that there is a dog"
    assert spans["object: cat"] == "a cat"


def test_what_a_long_list_heading_leaves_open_stays_open() -> None:
    claims = EXTRACTOR.claims("If there were more objects, they might be:\n- a dog\n- a cat\nThere is a star.")
    assert [notation(c) for c in claims if not c.hedged] == ["object: star"]


def test_true_sentences_are_not_contradicted() -> None:
    """Every sentence written by hand, and generated ones about scenes that no rule was written for."""
    report = summary(read_statements(EXTRACTOR, scenes=60, first_seed=98_500_000))
    assert report["overall"]["true"] > 1000
    assert report["false_contradictions"] == []
    assert report["overall"]["true_supported"] > 0.6 * report["overall"]["true"]
    assert report["overall"]["false_contradicted"] > 0.5 * report["overall"]["false"]
