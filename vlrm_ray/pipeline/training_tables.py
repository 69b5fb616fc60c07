"""The narrow tables of a part that training reads: its selected pairs, and descriptions of its images."""

from collections.abc import Sequence

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.experts.evidence import NOTHING, describe_evidence
from vlrm_ray.pipeline.holdout import is_held_out
from vlrm_ray.preferences.wording import Counts, count_wordings, wordings_of
from vlrm_ray.reward.training.training_data import Description, TrainingPair, to_table
from vlrm_ray.store.rows import Row


def selected_pairs(rows: Sequence[Row]) -> pa.Table:
    """Table of the rows' selected pairs."""
    pairs = [
        TrainingPair(
            pair.pair_id, row.prompt.image, row.prompt.sha256, row.prompt.question, pair.chosen.text, pair.rejected.text,
            selected.chosen.text, selected.rejected.text, *wordings_of(pair),
        )
        for row in rows for selected in row.selected for pair in (selected.pair,)
    ]  # fmt: skip
    return to_table(pairs, TrainingPair)


def wordings(rows: Sequence[Row]) -> Counts:
    """How often each wording is true and false in the rows' selected pairs."""
    return count_wordings(wordings_of(selected.pair) for row in rows for selected in row.selected)


def descriptions(rows: Sequence[Row], config: Config) -> pa.Table:
    """Table with a description of each row's image, whether or not it gave a pair; not of images that are held out.

    Runs whose labels are not the experts' have none.
    """
    found = []
    for row in rows if config.pairing.labels == "experts" else ():
        evidence = describe_evidence(row.evidence)
        if row.candidates and evidence != NOTHING and not is_held_out(config, row.prompt.sha256):
            prompt = row.prompt
            found.append(Description(prompt.image, prompt.sha256, prompt.question, row.candidates[0].text, evidence))
    return to_table(found, Description)
