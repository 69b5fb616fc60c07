"""The narrow tables of a part that training reads: its selected pairs, and descriptions of its images."""

from collections.abc import Sequence

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.experts.evidence import NOTHING, describe_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.holdout import is_held_out
from vlrm_ray.reward.training.training_data import Description, TrainingPair, to_table
from vlrm_ray.store.rows import Row
from vlrm_ray.types import ScoredCritique

PER_TOKEN = 4, 28 * 28
"""Characters of a text and pixels of an image that give about one token."""
REFERENCES = {"pair_id", "image", "sha256"}
"""Columns with strings that are no text to learn."""


def selected_pairs(rows: Sequence[Row]) -> pa.Table:
    """Table of the rows' selected pairs."""
    pairs = [
        TrainingPair(
            pair.pair_id, row.prompt.image, row.prompt.sha256, row.prompt.question, pair.chosen.text, pair.rejected.text,
            _text(selected.chosen), _text(selected.rejected),
        )
        for row in rows for selected in row.selected for pair in (selected.pair,)
    ]  # fmt: skip
    return to_table(pairs, TrainingPair)


def sizes(table: pa.Table, rows: Sequence[Row], max_pixels: int) -> list[int]:
    """Estimated tokens of each item of a table: of its texts, and of its image where its size is known.

    Args:
        table: pairs or descriptions.
        rows: the rows that they are from.
        max_pixels: most pixels of an image; 0 means no limit.
    """
    pixels = {row.prompt.sha256: row.width * row.height for row in rows}
    characters, area = PER_TOKEN
    found = []
    for item in table.to_pylist():
        texts = sum(len(value) for name, value in item.items() if isinstance(value, str) and name not in REFERENCES)
        shown = pixels[item["sha256"]]
        found.append(1 + texts // characters + min(shown, max_pixels or shown) // area)
    return found


def _text(critique: ScoredCritique | None) -> str:
    return critique.text if critique else ""


def descriptions(rows: Sequence[Row], config: Config, verifier: Verifier) -> pa.Table:
    """Table with a description of each row's image by what is certain of the evidence, whether or not it gave a pair.

    Images that are held out are not described.

    Runs whose labels are not the experts' have none.
    """
    found = []
    for row in rows if config.pairing.labels == "experts" else ():
        evidence = describe_evidence(verifier.certain(row.evidence))
        if row.candidates and evidence != NOTHING and not is_held_out(config, row.prompt.sha256):
            prompt = row.prompt
            found.append(Description(prompt.image, prompt.sha256, prompt.question, row.candidates[0].text, evidence))
    return to_table(found, Description)
