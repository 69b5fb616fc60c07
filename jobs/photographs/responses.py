"""Given responses for the configuration `jobs/configs/photos.yaml`: true and false descriptions of photographs.

Each image of a split gets descriptions of two or three sentences. A true one has true statements only; a false one has one
false statement among true ones, and as many sentences. Which are which is not in the file: in a run the experts decide.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DESCRIPTIONS = 2
"""True descriptions of an image, and as many false ones."""
SENTENCES = (2, 3)
QUESTION = "Describe the image."

Statement = dict[str, Any]


def write_responses(folder: Path, split: str) -> Path:
    """Write `responses.jsonl` (a prompt with its responses a line) and `responses.truth.jsonl` (which of them are true).

    Args:
        folder: folder of the photograph set, with `statements.jsonl`.
        split: the split whose images are described.

    Returns:
        The first file.
    """
    prompts, truth = [], []
    for image, statements in _by_image(folder / "statements.jsonl", split).items():
        described = list(_descriptions(image, statements))
        if not described:
            continue
        responses = [text for text, _ in described]
        prompts.append({"image": image, "question": QUESTION, "responses": responses})
        truth.append({"image": image, "true": [is_true for _, is_true in described]})
    _write(folder / "responses.truth.jsonl", truth)
    _write(folder / "responses.jsonl", prompts)
    return folder / "responses.jsonl"


def _by_image(file: Path, split: str) -> dict[str, list[Statement]]:
    """Statements of a split by image, without those that are hedged."""
    found: dict[str, list[Statement]] = {}
    for line in file.read_text().splitlines():
        statement = json.loads(line)
        if statement["split"] == split and not statement["hedged"]:
            found.setdefault(statement["image"], []).append(statement)
    return found


def _descriptions(image: str, statements: Sequence[Statement]) -> Iterator[tuple[str, bool]]:
    """Distinct descriptions of an image in random order, each with whether it is true; none without true statements."""
    rng = random.Random(f"responses-{image}")
    true = [s["text"] for s in statements if s["true"]]
    false = [s["text"] for s in statements if not s["true"]]
    found: dict[str, bool] = {}
    for is_true in [True, False] * DESCRIPTIONS:
        size = rng.choice(SENTENCES)
        if len(true) < size or not (is_true or false):
            continue
        sentences = rng.sample(true, size)
        if not is_true:
            sentences[rng.randrange(size)] = rng.choice(false)
        found[" ".join(sentences)] = is_true
    described = list(found.items())
    rng.shuffle(described)
    yield from described


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
