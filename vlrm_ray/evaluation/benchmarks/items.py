"""A benchmark's item, what a judge said of it, and what a benchmark consists of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from vlrm_ray.ids import digest, seed_of, sha256_of

Row = dict[str, Any]
"""One row of a file in a public format."""
LogFn = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """One question with two answers, of which one is better.

    Attributes:
        position: place among the benchmark's rows, from 0.
        item_id: the public id; several items may share one.
        groups: official split: first the group that the macro average is over, then finer ones.
        image: a path inside the data, a URL, base64 or the file's bytes; None asks without a picture.
        answers: in the file's order; of a Yes/No question the "Yes" comes first.
        better: index of the better answer.
        row: what the official prediction repeats of the file's row.
        where: file and row, for messages.
        problem: why the item cannot be judged, if that is known from its row.
    """

    position: int
    item_id: str
    groups: tuple[str, ...]
    question: str
    image: str | bytes | None
    answers: tuple[str, str]
    better: int
    row: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    problem: str = ""

    @cached_property
    def key(self) -> str:
        """Position and content: items that share an id stay apart, a changed file is judged anew."""
        image = sha256_of(self.image) if isinstance(self.image, bytes) else self.image
        content = digest(self.item_id, self.question, image, self.answers, self.better)
        return f"{self.position:06d}-{content}"

    @property
    def first(self) -> int:
        """Which answer is shown first in random order: follows from the id alone."""
        return seed_of("order", self.item_id) % 2


class Status(StrEnum):
    """How judging an item ended; all but `decided` count as wrong."""

    DECIDED = "decided"
    TIE = "tie"
    UNPARSED = "unparsed"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Judgement:
    """What a judge made of an item.

    Attributes:
        key: the item's key.
        first: index of the answer that was shown first.
        pick: index of the answer that won; None unless decided.
        rewards: of the two answers in the file's order; a judge that only compares gives its
            shares of votes, an undecided item has equal ones.
        reason: why it was quarantined.
        texts: what the judge wrote.
    """

    key: str
    first: int
    status: Status
    pick: int | None = None
    rewards: tuple[float, float] = (0.0, 0.0)
    reason: str = ""
    texts: tuple[str, ...] = ()

    def right(self, item: Item) -> bool:
        """Whether the better answer won."""
        return self.pick == item.better


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark.

    Attributes:
        read: items of a data folder; raises UserError naming file, row and what was expected.
        predict: an item's row in the official prediction format.
        files: the files that the official scorer reads, by name.
        official: the official formula over those rows, as the official script computes it.
            Where that script would stop with an error, `script_stops` says at what.
        yes_no: the answers are "Yes" and "No".
    """

    name: str
    read: Callable[[Path, LogFn], list[Item]]
    predict: Callable[[Item, Judgement], Row]
    files: Callable[[Sequence[Row]], dict[str, str]]
    official: Callable[[Sequence[Row]], dict[str, Any]]
    yes_no: bool = False


def ratio(part: float, whole: float) -> float | None:
    """A share; None where the official scripts divide by zero."""
    return part / whole if whole else None
