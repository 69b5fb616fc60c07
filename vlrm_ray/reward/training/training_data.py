"""The selected pairs that a round is trained on, in a narrow table: one row per pair, without what training does not need.

A train worker holds only the pairs that its own batches need; it reads the parts one after the other and keeps its rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import pyarrow as pa

from vlrm_ray.store.arrow_types import arrow_type
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row


@dataclass(frozen=True)
class TrainingPair:
    """A selected pair with its prompt.

    Attributes:
        pair_id: id of the pair.
        image: URI or local path of the image.
        sha256: sha256 of the image file.
        question: the question.
        chosen: the chosen response.
        rejected: the rejected response.
        chosen_critique: critique of the chosen response, ending in Yes.
        rejected_critique: critique of the rejected response, ending in No.
    """

    pair_id: str
    image: str
    sha256: str
    question: str
    chosen: str
    rejected: str
    chosen_critique: str
    rejected_critique: str


def training_pairs(rows: Sequence[Row]) -> list[TrainingPair]:
    """The rows' selected pairs."""
    return [
        TrainingPair(
            pair.pair_id, row.prompt.image, row.prompt.sha256, row.prompt.question,
            pair.chosen, pair.rejected, pair.chosen_critique, pair.rejected_critique,
        )
        for row in rows for pair in row.selected
    ]  # fmt: skip


def to_table(pairs: Sequence[TrainingPair]) -> pa.Table:
    """Table with a column for each field of the pairs."""
    columns = [field.name for field in fields(TrainingPair)]
    schema = arrow_type(TrainingPair)
    return pa.table(
        [pa.array([getattr(pair, name) for pair in pairs], schema.field(name).type) for name in columns], names=columns
    )


class TrainingData:
    """The selected pairs of a round, numbered in the order of parts and rows."""

    def __init__(self, ledger: Ledger, round_: int) -> None:
        """Read the number of pairs of each part, from the parts' markers."""
        self.ledger, self.round = ledger, round_
        markers = ledger.part_markers(round_)
        self.parts = sorted(markers)
        counts = [int(markers[part]["tables"]["select"]["rows"]) for part in self.parts]
        self.starts = [0, *accumulate(counts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, indices: Collection[int]) -> dict[int, TrainingPair]:
        """The pairs with some numbers; others are not kept in memory."""
        wanted = sorted(set(indices))
        found: dict[int, TrainingPair] = {}
        for part, start, end in zip(self.parts, self.starts, self.starts[1:], strict=False):
            here = [index for index in wanted if start <= index < end]
            if here:
                table = self.ledger.get_part(self.round, "select", part).take([index - start for index in here])
                found |= {index: TrainingPair(**row) for index, row in zip(here, table.to_pylist(), strict=True)}
        return found
