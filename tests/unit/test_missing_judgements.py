"""A critique without a readable judgement is asked for it; the others stay as they are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrm_ray.config import Selection
from vlrm_ray.engines import TOO_LONG, Completion, Request, Sampling, scored_critique
from vlrm_ray.preferences.critique import COMPACT, parse_critique
from vlrm_ray.preferences.judgement import find_judgement, judgement_prompt
from vlrm_ray.preferences.selection import usable_critiques
from vlrm_ray.reward.missing_judgements import MissingJudgement, with_judgements

ENDINGS = Path(__file__).parents[1] / "data" / "judgements" / "endings.tsv"
"""Ends of critiques as models write them, each with its judgement, or ASK where the model must be asked for it."""
LABELS = {"YES": True, "NO": False, "ASK": None}


def endings() -> list[tuple[str, bool | None]]:
    rows = [line.split("\t") for line in ENDINGS.read_text().splitlines()]
    return [(text.replace("\\n", "\n").replace("\\\\", "\\"), LABELS[label]) for label, text in rows]


class AskedEngine:
    """An engine that gives a judgement after "Judgement:", and refuses prompts of more than `room` characters.

    Attributes:
        asked: the prefixes of the requests that it has scored.
    """

    def __init__(self, yes: float = 0.2, no: float = 0.7, room: int = 10_000) -> None:
        self.yes, self.no, self.room = yes, no, room
        self.asked: list[str] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        raise AssertionError("critiques are not generated again")

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        for request in requests:
            assert request.prefix.rstrip("*").endswith("Judgement:")
            if len(request.prefix) > self.room:
                raise ValueError("longer than the maximum model length")
        self.asked += [request.prefix for request in requests]
        return [Completion("", self.yes, self.no)] * len(requests)

    def load(self, folder: str) -> None: ...

    def close(self) -> None: ...


def read(text: str) -> Completion:
    """An answer of an engine: without probabilities where it has no judgement."""
    found = find_judgement(text)
    return Completion(text) if found is None else Completion(text, 0.9 if found.value else 0.1, 1 - 0.9 * found.value)


# --- the corpus ---------------------------------------------------------------------------------


def test_the_corpus_has_sixty_endings_of_each_kind() -> None:
    assert len(endings()) >= 60
    assert min(Counter(label for _, label in endings()).values()) >= 15


@pytest.mark.parametrize(("text", "judgement"), endings())
def test_no_ending_is_read_wrongly(text: str, judgement: bool | None) -> None:
    assert parse_critique(text).judgement is judgement


@pytest.mark.parametrize("prefix", ["", COMPACT.prefix("red circle top left, sign NO top right")])
def test_with_the_asking_no_critique_is_without_a_reward(prefix: str) -> None:
    request, answers = Request("Critique.", "a.png", prefix=prefix), [read(text.strip()) for text, _ in endings()]
    ((*found,),) = with_judgements(AskedEngine(), [request], [answers])
    critiques = [scored_critique(answer) for answer in found]
    assert all(critique.label_mass > 0.5 for critique in critiques)
    whole = [f"{prefix} {critique.text}".strip() for critique in critiques]
    assert all(parse_critique(text).judgement is not None for text in whole)
    assert len(usable_critiques(critiques, Selection().label_mass)[0]) == len(endings())


def test_only_critiques_without_a_judgement_are_asked() -> None:
    request, engine = Request("Critique.", "a.png"), AskedEngine()
    answers = [read(text.strip()) for text, _ in endings()]
    ((*found,),) = with_judgements(engine, [request], [answers])
    missing = [judgement is None for _, judgement in endings()]
    assert [answer.asked for answer in found] == missing
    assert len(engine.asked) == sum(missing)
    for before, after, asked in zip(answers, found, missing, strict=True):
        assert after.text.startswith(before.text) if asked else after == before


# --- what is asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "continued"),
    [
        ("Seen: a. Check: b.", "Seen: a. Check: b. Judgement:"),
        ("**Seen:** a.\n\n**Check:** b and", "**Seen:** a.\n\n**Check:** b and\nJudgement:"),
        ("Seen: a. Check: b is", "Seen: a. Check: b is. Judgement:"),
        ("The circle is bl", "The circle is bl\nJudgement:"),
        ("Seen: a. Check: b. Judgement:", "Seen: a. Check: b. Judgement:"),
        ("a\n**Judgement:** ", "a\n**Judgement:**"),
        ("Seen: a. Check: is it yes or", "Seen: a. Check: is it yes or\nJudgement:"),
        ("", "Judgement:"),
    ],
)
def test_a_text_is_continued_in_its_own_layout(text: str, continued: str) -> None:
    assert judgement_prompt(text) == continued


@given(st.text(alphabet="YesNo noyes.\n*:_/,Judgement'or", max_size=60), st.booleans())
@settings(deadline=None)
def test_the_judgement_that_was_asked_for_is_always_read(text: str, judgement: bool) -> None:
    if find_judgement(text) is None:
        found = find_judgement(f"{judgement_prompt(text)} {'Yes' if judgement else 'No'}")
        assert found is not None
        assert found.value is judgement


def test_the_model_continues_the_prefix_and_its_own_text() -> None:
    request, engine = Request("Critique.", "a.png", seed=3, prefix="Seen: red circle."), AskedEngine()
    ((answer,),) = with_judgements(engine, [request], [[Completion("Check: it is red")]])
    assert engine.asked == ["Seen: red circle. Check: it is red. Judgement:"]
    assert answer == Completion("Check: it is red. Judgement: No", 0.2, 0.7, asked=True)


@pytest.mark.parametrize("text", ["Check: it is red", "Yes, it is red"])
def test_a_judgement_in_the_given_prefix_or_of_a_part_does_not_count(text: str) -> None:
    request = Request("Critique.", "a.png", prefix="Seen: sign JUDGEMENT: NO top left.")
    assert MissingJudgement.of(request, Completion(text, 0.9, 0.1)) is not None
    assert MissingJudgement.of(request, Completion(f"{text} Judgement: Yes", 0.9, 0.1)) is None


def test_a_critique_that_fills_the_context_is_cut_to_make_room() -> None:
    request, engine = Request("Critique.", "a.png"), AskedEngine(room=90)
    ((answer, other),) = with_judgements(engine, [request], [[Completion("word " * 20), Completion("short")]])
    assert answer.text == "word " * 14 + "word\nJudgement: No"
    assert other.text == "short\nJudgement: No"


def test_a_refused_request_is_not_asked() -> None:
    assert MissingJudgement.of(Request("Critique.", "a.png"), Completion("", refused=TOO_LONG)) is None


def test_a_critique_stays_as_it_is_if_the_engine_refuses_the_question() -> None:
    engine = AskedEngine(room=0)
    ((answer,),) = with_judgements(engine, [Request("Critique.", "a.png")], [[Completion("It is red.")]])
    assert answer == Completion("It is red.")


QUOTING = "Seen: a pot. Check: 1. The response states 'Judgement: Yes', 2. wrong. 3. 'a red kettle"


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (Completion(QUOTING, 0.9, 0.1, cut=True), True),
        (Completion(f"{QUOTING}. Judgement: No", 0.1, 0.9, cut=True), False),
        (Completion("Seen: a pot. Judgement: Yes.", 0.9, 0.1, cut=True), False),
    ],
)
def test_a_judgement_that_is_quoted_before_the_critique_is_cut_off_does_not_count(
    answer: Completion, asked: bool
) -> None:
    (found,) = with_judgements(AskedEngine(), [Request("q", None)], [[answer]])[0]
    assert found.asked is asked
    assert scored_critique(found).asked is asked
    judgement = parse_critique(found.text).judgement
    assert judgement is (found.yes > found.no)
