"""What a round is trained on, in narrow tables without what training does not need: selected pairs, and descriptions.

A train worker holds only the items that its own batches need; it reads many parts at the same time and keeps its rows.
"""

import random
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, Generic, TypeVar

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.ids import seed_of
from vlrm_ray.store.arrow_types import arrow_type
from vlrm_ray.store.ledger import Ledger

PAIRS, DESCRIPTIONS = "select", "describe"
"""Names of a part's tables."""


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
        chosen_critique: critique of the chosen response, ending in Yes; "" if only the other one is learned.
        rejected_critique: critique of the rejected response, ending in No; "" if only the other one is learned.
    """

    pair_id: str
    image: str
    sha256: str
    question: str
    chosen: str
    rejected: str
    chosen_critique: str
    rejected_critique: str


@dataclass(frozen=True)
class Description:
    """An image with what the experts saw, as the beginning of a critique of a response.

    Attributes:
        image: URI or local path of the image.
        sha256: sha256 of the image file.
        question: a question about it.
        response: a response to the question.
        evidence: the experts' evidence as text.
    """

    image: str
    sha256: str
    question: str
    response: str
    evidence: str


Item = TrainingPair | Description
T = TypeVar("T", TrainingPair, Description)


def to_table(items: Sequence[T], kind: type[T]) -> pa.Table:
    """Table with a column for each field of the items."""
    columns = [field.name for field in fields(kind)]
    schema = arrow_type(kind)
    return pa.table(
        [pa.array([getattr(item, name) for item in items], schema.field(name).type) for name in columns], names=columns
    )


class TrainingTable(Generic[T]):
    """The items of one kind that a round has made, numbered in the order of parts and rows."""

    def __init__(
        self, ledger: Ledger, round_: int, name: str, kind: type[T], markers: Mapping[int, dict[str, Any]] | None = None
    ) -> None:
        """Find the number of items of each part in the parts' markers; without `markers` these are read."""
        self.ledger, self.round, self.name = ledger, round_, name
        self.kind: type[T] = kind
        self.markers = ledger.part_markers(round_) if markers is None else markers
        self.parts = sorted(part for part, marker in self.markers.items() if name in marker["tables"])
        self.starts = [0, *accumulate(int(self.markers[part]["tables"][name]["rows"]) for part in self.parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, indices: Collection[int]) -> dict[int, T]:
        """The items with some numbers; others are not kept in memory. Columns that only older tables have are not read."""
        columns = [field.name for field in fields(self.kind)]
        wanted: dict[int, list[int]] = {}
        for index in sorted(set(indices)):
            wanted.setdefault(bisect_right(self.starts, index) - 1, []).append(index)

        def items(place: int) -> dict[int, T]:
            part, here = self.parts[place], wanted[place]
            table = self.ledger.get_part(self.round, self.name, part, columns, marker=self.markers[part])
            rows = table.take([index - self.starts[place] for index in here]).to_pylist()
            return {index: self.kind(**row) for index, row in zip(here, rows, strict=True)}

        return {index: item for found in self.ledger.each_part(items, wanted) for index, item in found.items()}

    def sizes(self) -> list[int]:
        """Estimated tokens of each item, from the parts' markers; nothing if a part has none, as those of older runs."""
        found = [self.markers[part].get("sizes", {}).get(self.name) for part in self.parts]
        return [] if None in found else [size for sizes in found for size in sizes]


class TrainingPairs(TrainingTable[TrainingPair]):
    """The pairs that a round has selected."""

    def __init__(self, ledger: Ledger, round_: int, markers: Mapping[int, dict[str, Any]] | None = None) -> None:
        """Find the number of pairs of each part; `markers` as in `TrainingTable`.

        Raises:
            UserError: the parts have other pairs than the round has selected: one was lost after the round was gathered.
        """
        super().__init__(ledger, round_, PAIRS, TrainingPair, markers)
        selected = ledger.result(round_, "select")
        if selected is not None and len(self) != selected["rows"]["kept"]:
            raise UserError(
                f"{len(self)} of the {selected['rows']['kept']} selected pairs of round {round_} are there, so a part is missing; delete "
                f"{ledger.location(ledger.round_folder(round_, 'select.json'))} and {ledger.location('train')}, then run the same command "
                "again: it makes the part anew"
            )


class TrainingSet:
    """All items that a round's training learns from, numbered: the round's pairs, replayed ones, then descriptions.

    Attributes:
        pairs: number of pairs.
        descriptions: number of descriptions; 0 unless `train.description_weight` is set.
        sizes: estimated tokens of each item; all 1 if they are not known of some.
    """

    def __init__(self, config: Config, ledger: Ledger, round_: int) -> None:
        """Choose the items; all workers choose the same."""
        earlier = range(1, round_) if config.train.replay else range(0)
        tables = [TrainingPairs(ledger, number) for number in (round_, *earlier)]
        places = _chosen(tables, config, "replay")
        self.pairs, self.descriptions = len(places), 0
        if config.train.description_weight:
            described = [TrainingTable(ledger, t.round, DESCRIPTIONS, Description) for t in tables]
            found = _chosen(described, config, "replayed descriptions")
            self.descriptions = len(found)
            places += found
        self._places: list[tuple[TrainingTable[Any], int]] = places
        sizes = {table: table.sizes() for table in {table for table, _ in places}}
        known = all(sizes.values())
        self.sizes = [sizes[table][index] if known else 1 for table, index in places]

    def __len__(self) -> int:
        return len(self._places)

    def read(self, numbers: Collection[int]) -> dict[int, Item]:
        """The items with some numbers; others are not kept in memory."""
        tables: dict[TrainingTable[Any], dict[int, int]] = {}
        for number in numbers:
            table, index = self._places[number]
            tables.setdefault(table, {})[index] = number
        return {
            indices[index]: item for table, indices in tables.items() for index, item in table.read(indices).items()
        }


def _chosen(tables: Sequence[TrainingTable[Any]], config: Config, purpose: str) -> list[tuple[TrainingTable[Any], int]]:
    """All items of the first table, and of the others together `train.replay` times as many, drawn evenly."""
    new, *earlier = [[(table, index) for index in range(len(table))] for table in tables]
    old = [place for places in earlier for place in places]
    count = min(len(old), round(config.train.replay * len(new)))
    return new + random.Random(seed_of(purpose, config.seed, tables[0].round)).sample(old, count)
