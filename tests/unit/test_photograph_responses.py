"""Given descriptions of photographs: true ones of true statements, false ones with a single false statement."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.photographs.responses import DESCRIPTIONS, SENTENCES, write_responses

IMAGES = [f"test/{i}.jpg" for i in range(12)]
TRUE, FALSE = [f"There are {i} dogs." for i in range(6)], [f"There are {i} cats." for i in range(4)]


def statement(image: str, text: str, is_true: bool, split: str = "test", hedged: bool = False) -> dict[str, Any]:
    return {"image": image, "split": split, "text": text, "true": is_true, "hedged": hedged}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [statement(image, text, text in TRUE) for image in IMAGES for text in (*TRUE, *FALSE)]
    rows += [statement(IMAGES[0], "Perhaps a bus.", True, hedged=True)]
    rows += [
        statement("test/c.jpg", "There is one dog.", True),
        statement("calibration/d.jpg", TRUE[0], True, "calibration"),
    ]
    (tmp_path / "statements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def written(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    file = write_responses(folder, "test")
    truth = folder / "responses.truth.jsonl"
    return [(json.loads(a), json.loads(b)) for a, b in zip(file.open(), truth.open(), strict=True)]


def sentences(response: str) -> list[str]:
    return [f"{sentence}." for sentence in response.removesuffix(".").split(". ")]


def test_a_description_is_false_by_one_sentence(folder: Path) -> None:
    for prompt, truth in written(folder):
        assert len(prompt["responses"]) == len(truth["true"]) == 2 * DESCRIPTIONS
        assert sum(truth["true"]) == DESCRIPTIONS
        for response, is_true in zip(prompt["responses"], truth["true"], strict=True):
            assert len(sentences(response)) in SENTENCES
            assert sum(sentence in FALSE for sentence in sentences(response)) == (0 if is_true else 1)


def test_images_of_the_split_with_enough_statements_are_described(folder: Path) -> None:
    assert [prompt["image"] for prompt, _ in written(folder)] == IMAGES


def test_the_file_does_not_say_what_is_true_and_is_the_same_each_time(folder: Path) -> None:
    first = written(folder)
    assert first == written(folder)
    assert all(set(prompt) == {"image", "question", "responses"} for prompt, _ in first)
    assert len({tuple(truth["true"]) for _, truth in first}) > 1  # the order tells nothing
