"""Going through a benchmark's items: picture, requests, answers, judgement, each judged once and logged.

The log `judged.jsonl` holds a line per item and order, appended as answers come, so a killed run goes
on where it stopped. A half-written last line is cut off.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vlrm_ray.engines import Request
from vlrm_ray.errors import BadImage
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.items import Item, Judgement, Status
from vlrm_ray.evaluation.benchmarks.judging import Answer, JudgeSettings, decide, requests
from vlrm_ray.evaluation.benchmarks.pictures import Pictures

Batch = list[Request]
Answers = Callable[[Iterator[Batch]], Iterator[tuple[int, list[Answer]]]]
"""Takes batches of requests as they are made ready; gives (number of the batch, its answers) in any order."""
TOO_LONG = "longer_than_the_model_takes"
Judgements = dict[tuple[str, int], Judgement]
"""Judgements by item key and the index of the answer that was shown first."""


class Log:
    """Judgements on disk, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.judged: Judgements = {}
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            self._remember(_judgement(json.loads(line)))
        if path.is_file():
            os.truncate(path, whole)

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Append, and be sure that it is on disk."""
        with self.path.open("a", encoding="ascii") as file:
            for judgement in judgements:
                file.write(json.dumps(asdict(judgement)) + "\n")
                self._remember(judgement)
            file.flush()
            os.fsync(file.fileno())

    def _remember(self, judgement: Judgement) -> None:
        self.judged[judgement.key, judgement.first] = judgement


def _judgement(line: dict[str, object]) -> Judgement:
    values = {**line, "status": Status(str(line["status"]))}
    for name in ("rewards", "texts"):
        values[name] = tuple(values[name])  # type: ignore[arg-type]
    return Judgement(**values)  # type: ignore[arg-type]


@dataclass
class Scorer:
    """Judges the items that the log lacks.

    Attributes:
        size: requests in a batch, about.
        asked: the requests of this session, kept where the bare engine is to be measured on them.
    """

    manner: JudgeSettings
    pictures: Pictures
    room: ContextBudget
    log: Log
    size: int
    asked: list[Request] = field(default_factory=list)

    def missing(self, items: Sequence[Item], both: bool) -> list[tuple[Item, int]]:
        """Items with the answer to show first that are not in the log; the random order comes first."""
        wanted = [(item, item.first) for item in items]
        wanted += [(item, 1 - item.first) for item in items if both]
        return [(item, first) for item, first in wanted if (item.key, first) not in self.log.judged]

    def score(
        self, todo: Iterable[tuple[Item, int]], answers: Answers, done: Callable[[int], None], keep: bool = False
    ) -> None:
        """Judge and log; `done` counts items."""
        open_: dict[int, list[tuple[Item, int, int]]] = {}

        def batches() -> Iterator[Batch]:
            for number, (members, batch) in enumerate(self._batches(todo, done)):
                open_[number] = members
                if keep:
                    self.asked += batch
                yield batch

        for number, found in answers(batches()):
            place, judgements = 0, []
            for item, first, count in open_.pop(number):
                judgements.append(decide(item, first, self.manner, found[place : place + count]))
                place += count
            self.log.add(judgements)
            done(len(judgements))

    def _batches(
        self, todo: Iterable[tuple[Item, int]], done: Callable[[int], None]
    ) -> Iterator[tuple[list[tuple[Item, int, int]], Batch]]:
        members: list[tuple[Item, int, int]] = []
        batch: Batch = []
        for item, first in todo:
            try:
                asked = self._requests(item, first)
            except BadImage as error:
                self.log.add([Judgement(item.key, first, Status.QUARANTINED, reason=str(error))])
                done(1)
                continue
            members.append((item, first, len(asked)))
            batch += asked
            if len(batch) >= self.size:
                yield members, batch
                members, batch = [], []
        if batch:
            yield members, batch

    def _requests(self, item: Item, first: int) -> Batch:
        """Raises BadImage with the reason for which the item is quarantined."""
        if item.problem:
            raise BadImage(item.problem)
        image = None if item.image is None else self.pictures.uri(item.image)
        asked = requests(item, first, self.manner, image)
        if not all(self.room.fits(request.text) for request in asked):
            raise BadImage(TOO_LONG)
        return asked


def in_order(items: Sequence[Item], judged: Mapping[tuple[str, int], Judgement]) -> list[Judgement]:
    """The judgement of each item in the random order."""
    return [judged[item.key, item.first] for item in items]
