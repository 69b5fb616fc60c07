"""What the tiny VLM's pre-training learns of a conversation."""

from dataclasses import replace

import pytest

from jobs.assets import vlm
from vlrm_ray.config import asset_path
from vlrm_ray.scenes.corpus import COUNTED_SHARE, Turn, given_critique

COUNTING = vlm.Recipe().phases[-1]


@pytest.fixture(scope="module")
def batches() -> vlm.Batches:
    return vlm.Batches(vlm.hf.AutoProcessor.from_pretrained(asset_path("assets:vlm")), vlm.Recipe())


def learned(batches: vlm.Batches, turns: list[Turn]) -> str:
    """The words that have labels."""
    ids, labels = batches._row(turns, [])
    assert all(label in (vlm.IGNORE, token) for token, label in zip(ids, labels, strict=True))
    return str(batches.processor.tokenizer.decode([label for label in labels if label != vlm.IGNORE]))


def test_the_assistants_words_are_learned_but_for_those_that_are_given(batches: vlm.Batches) -> None:
    turns = [
        Turn("What color is the star?", "The star is red."),
        Turn("Critique.", "Seen: star. Check: it.", "Seen: star."),
    ]
    assert learned(batches, turns) == "The star is red.<|end|> Check: it.<|end|>"


def test_a_critique_goes_on_from_its_given_description_as_in_the_rounds(batches: vlm.Batches) -> None:
    turn = given_critique(3)
    assert turn.assistant.startswith(turn.given)
    assert turn.given.startswith("Seen: ")
    assert turn.given not in turn.user
    assert learned(batches, [turn]) == turn.assistant.removeprefix(turn.given) + "<|end|>"


def test_most_critiques_with_a_given_description_practise_counting() -> None:
    checks = [turn.assistant.partition("Check:")[2] for turn in map(given_critique, range(300))]
    numbers = ("no ", "one ", "two ", "three ", "four ", "more ", "fewer ", "as many ")
    counting = sum(check.strip().startswith(numbers) and " found " in check for check in checks)
    assert counting / 300 >= COUNTED_SHARE - 0.1


def test_the_text_only_conversations_of_a_step_are_divided_as_its_phase_says(batches: vlm.Batches) -> None:
    phase = replace(COUNTING, told=16, given=0.5)
    batch = batches.text_only(0, phase)
    assert batch["input_ids"].shape[0] == 16
    hinted = sum("Hint:" in batches.processor.tokenizer.decode(row) for row in batch["input_ids"])
    answers = 1  # every eighth conversation; one of them is among the second half
    assert hinted == 8 - answers
