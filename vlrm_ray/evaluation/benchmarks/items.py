"""Data types of the benchmarks: an item to judge, the judgement of it, and the definition of a benchmark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from vlrm_ray.ids import digest, seed_of, sha256_of

Row = dict[str, Any]
"""One row of a file in a benchmark's public format."""
LogFn = Callable[[str], None]
"""Prints one line."""


@dataclass(frozen=True)
class Item:
    """A question with two answers, one of which is better.

    Attributes:
        position: index of the item in the benchmark, from 0.
        item_id: the public id; several items may share one.
        groups: groups of the official split: first the group that the macro average is taken over, then finer ones.
        question: the question, as in the file.
        image: a path inside the data, a URL, base64 text or the file's bytes; None if the question has no image.
        answers: the two answers in the order of the file; for a Yes/No question "Yes" is the first.
        better: index of the better answer.
        row: columns of the file's row that the official prediction format repeats.
        where: file and row number, for messages.
        problem: the reason why the item cannot be judged, if the row alone tells; empty otherwise.
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
        """Unique key from position and content.

        Items that share an id have different keys, and an item whose content changes gets a new key and is
        judged again.
        """
        image = sha256_of(self.image) if isinstance(self.image, bytes) else self.image
        content = digest(self.item_id, self.question, image, self.answers, self.better)
        return f"{self.position:06d}-{content}"

    @cached_property
    def cluster(self) -> str:
        """Hash of the image; without an image of the question. Items that share it are not independent of each other."""
        image = sha256_of(self.image) if isinstance(self.image, bytes) else self.image
        return digest("image", image) if image else digest("question", self.question)

    @property
    def better_and_worse(self) -> tuple[str, str]:
        """The better answer and the other one."""
        return self.answers[self.better], self.answers[1 - self.better]

    @property
    def first(self) -> int:
        """Index of the answer that is shown first; pseudo-random, derived from the id alone."""
        return seed_of("order", self.item_id) % 2


class Status(StrEnum):
    """Outcome of judging an item; every status except `decided` counts as wrong."""

    DECIDED = "decided"
    TIE = "tie"
    UNPARSED = "unparsed"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Judgement:
    """The result of judging one item in one order; a line of `judged.jsonl`.

    Attributes:
        key: the item's key.
        first: index of the answer that was shown first.
        status: whether the judge decided, and if not, why.
        pick: index of the answer that the judge prefers; None unless the status is `decided`.
        rewards: rewards of the two answers, in the order of the file. A pairwise judge gives the share of votes
            of each answer. An undecided item has two equal rewards.
        reason: why the item was quarantined.
        texts: the texts that the judge generated.
    """

    key: str
    first: int
    status: Status
    pick: int | None = None
    rewards: tuple[float, float] = (0.0, 0.0)
    reason: str = ""
    texts: tuple[str, ...] = ()

    def is_correct(self, item: Item) -> bool:
        """Whether the judge prefers the better answer."""
        return self.pick == item.better


@dataclass(frozen=True)
class Benchmark:
    """Definition of a public benchmark.

    Attributes:
        name: name on the command line.
        read: reads the items of a data folder; raises UserError that names file, row and the expected value.
        predict: converts a judgement to a row of the official prediction format.
        files: contents of the files that the official scorer reads, by file name.
        official: the official metrics of these rows, computed as the official script computes them. Where that
            script would stop with an error, the key `script_stops` holds the error.
        yes_no: whether the two answers are "Yes" and "No".
    """

    name: str
    read: Callable[[Path, LogFn], list[Item]]
    predict: Callable[[Item, Judgement], Row]
    files: Callable[[Sequence[Row]], dict[str, str]]
    official: Callable[[Sequence[Row]], dict[str, Any]]
    yes_no: bool = False


def ratio(part: float, whole: float) -> float | None:
    """`part / whole`; None where the official scripts would divide by zero."""
    return part / whole if whole else None
