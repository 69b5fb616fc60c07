"""What words alone tell of pairs."""

import random
from pathlib import Path

import pytest

from vlrm_ray.evaluation.words import LEAST_PAIRS, TextPair, WordModel, features_of, sides_of, words_alone
from vlrm_ray.pipeline import training_words
from vlrm_ray.report.tables import words_table
from vlrm_ray.reward.training.training_data import PAIRS, TrainingPair, to_table
from vlrm_ray.store.ledger import Ledger

LEAKY: list[TextPair] = [("Which?", f"A {w} dog.", f"A {w} cat.") for w in ("red", "blue", "big", "small") * 15]
IMAGES = [f"{i}.png" for i in range(len(LEAKY))]


def flipped(count: int) -> list[TextPair]:
    rng = random.Random(0)
    return [("Which?", *rng.sample(("a dog", "a cat"), 2)) for _ in range(count)]


def preferred(train: list[TextPair], test: list[TextPair]) -> list[bool]:
    return [difference > 0 for difference in WordModel.fit(sides_of(train)).differences(sides_of(test))]


def test_leaky_words_are_learned_and_balanced_ones_are_not() -> None:
    assert all(preferred(LEAKY, LEAKY))
    assert abs(sum(preferred(flipped(400)[:200], flipped(400)[200:])) / 200 - 0.5) < 0.12


def test_half_of_the_pairs_that_words_cannot_tell_apart_count() -> None:
    new = [("Which?", f"a{i}", f"b{i}") for i in range(60)]  # no word occurs twice
    found = words_alone([*LEAKY, *new], [*IMAGES, *(f"new {i}" for i in range(60))])
    assert found is not None and found.accuracy.value == 0.75


@pytest.mark.parametrize(("good", "bad", "frame"), [("狗", "猫", "图中第{}只{}。"), ("कुत्ता", "बिल्ली", "यह {} {} है।")])
def test_words_of_other_scripts_are_told_apart(good: str, bad: str, frame: str) -> None:
    pairs = [("?", frame.format(i, good), frame.format(i, bad)) for i in range(60)]
    found = words_alone(pairs, IMAGES)
    assert found is not None and found.accuracy.value == 1.0
    assert good in found.chosen and bad in found.rejected


def test_long_responses_cost_no_more_than_their_beginning() -> None:
    assert features_of("?", "dog " * 200 + "cat") == {"dog", "dog dog"}


def test_the_words_that_give_the_sides_away_are_named() -> None:
    found = words_alone(LEAKY, IMAGES)
    assert found is not None
    assert (found.accuracy.value, found.accuracy.n) == (1.0, len(LEAKY))
    assert found.chosen[0] == "dog" and found.rejected[0] == "cat"


def test_the_longer_response_is_counted_among_pairs_of_unequal_length() -> None:
    unequal = [("Which?", "A brown dog.", "A dog."), ("Which?", "A dog.", "A brown dog."), ("Which?", "A dog.", "No.")]
    found = words_alone([*LEAKY, *unequal], [*IMAGES, "x", "y", "z"])
    assert found is not None and (found.longer.n, round(found.longer.value, 3)) == (3, 0.667)


def test_a_pair_is_judged_by_a_model_that_has_not_seen_its_image() -> None:
    """Each image has a word of its own, which would give the pair away."""
    pairs = [
        ("Which?", *(sides if i % 3 else sides[::-1])) for i in range(60) for sides in [(f"a x{i}", f"a y{i}")] * 2
    ]
    found, leaking = (
        words_alone(pairs, [f"{i // per_image:03}.png" for i in range(len(pairs))]) for per_image in (2, 1)
    )
    assert found is not None and found.accuracy.value == 0.5
    assert leaking is not None and leaking.accuracy.value == 1.0


@pytest.mark.parametrize(
    ("pairs", "images"), [(LEAKY[: LEAST_PAIRS - 1], IMAGES), (LEAKY, ["a.png"] * len(LEAKY)), ([], [])]
)
def test_few_pairs_and_pairs_of_one_image_are_not_measured(pairs: list[TextPair], images: list[str]) -> None:
    assert words_alone(pairs, images[: len(pairs)]) is None


def test_words_keep_hyphens_and_apostrophes_and_lose_case_and_punctuation() -> None:
    assert features_of("Is it?", "It's a T-shirt.") == {
        "it's", "a", "t-shirt", "it's a", "a t-shirt", "is: it's", "is: a", "is: t-shirt",
    }  # fmt: skip


def test_a_round_is_measured_by_its_selected_pairs_and_shown_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(str(tmp_path))
    pairs = [
        TrainingPair(str(i), image, image, *texts, "Judgement: Yes", "")
        for i, (image, texts) in enumerate(zip(IMAGES, LEAKY, strict=True))
    ]
    ledger.put_part(1, 0, {PAIRS: to_table(pairs[:20], TrainingPair)}, {})
    assert training_words.words_of_round(ledger, 1, ledger.part_markers(1)) is None
    ledger.put_part(1, 1, {PAIRS: to_table(pairs[20:], TrainingPair)}, {})
    words = training_words.words_of_round(ledger, 1, ledger.part_markers(1))
    assert words is not None and words["accuracy"]["n"] == len(LEAKY)
    table = words_table([{"round": 0}, {"round": 1, "words": words}])
    assert table is not None and table.columns == ["round 1"]
    assert table.rows[0].cells[0].text == "100.0\xa0%"
    assert table.rows[1].cells[0].text.startswith("dog, ")
    assert len(table.rows) == 4
    assert words_table([{"round": 0}]) is None
    monkeypatch.setattr(training_words, "MOST_PAIRS", 52)
    assert training_words.words_of_round(ledger, 1, ledger.part_markers(1))["accuracy"]["n"] == 52  # type: ignore[index]
