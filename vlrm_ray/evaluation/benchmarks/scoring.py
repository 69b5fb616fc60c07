"""Scoring of a benchmark: resolves images, sends requests to a judge, and logs each judgement once.

The log `judged.jsonl` has one line per item and order. Lines are appended as outputs arrive, so an interrupted run
resumes with the items that are missing. An incomplete last line is removed when the log is opened. An object store cannot
append: there the log is a local file, which is copied to it every `COPY_SECONDS` and at the end.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vlrm_ray.engines import TOO_LONG, Request
from vlrm_ray.errors import BadImage
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.images import ImageResolver
from vlrm_ray.evaluation.benchmarks.items import Item, Judgement, Status
from vlrm_ray.evaluation.benchmarks.judging import JudgeOutput, JudgeSettings, build_requests, decide
from vlrm_ray.store.folder import Folder

LOG = "judged.jsonl"
"""Name of the log in an output folder."""
COPY_SECONDS = 30
"""Interval at which the log is copied to an object store: what is lost if the process is killed."""
Batch = list[Request]
JudgeFn = Callable[[Iterator[Batch]], Iterator[tuple[int, list[JudgeOutput]]]]
"""Processes batches of requests as they become ready; yields (index of the batch, its outputs), in any order."""
Judgements = dict[tuple[str, int], Judgement]
"""Judgements by item key and the index of the answer that was shown first."""


class JudgementLog:
    """Judgements in a JSON-lines file.

    Attributes:
        path: the file.
        judged: all judgements in the file.
    """

    def __init__(self, path: Path, remote: Folder | None = None) -> None:
        """Read the judgements of an earlier session, if the file exists.

        Args:
            path: the file.
            remote: folder of an object store that the file is copied to.
        """
        self.path, self.remote, self._copied = path, remote, time.monotonic()
        self.judged: Judgements = {}
        complete = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            self._remember(_judgement(json.loads(line)))
        if path.is_file():
            os.truncate(path, complete)

    @classmethod
    @contextmanager
    def of(cls, folder: Folder) -> Iterator["JudgementLog"]:
        """Context manager: the log of an output folder."""
        if folder.local:
            yield cls(Path(folder.path(LOG)))
            return
        with tempfile.TemporaryDirectory(prefix="vlrm-bench-") as local:
            path = Path(local, LOG)
            path.write_bytes(folder.get(LOG) or b"")
            log = cls(path, folder)
            try:
                yield log
            finally:
                log.copy()

    def copy(self) -> None:
        """Copy the file to the object store, if it is in one."""
        if self.remote:
            self.remote.put(LOG, self.path.read_bytes())
            self._copied = time.monotonic()

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Append judgements and flush them to disk."""
        with self.path.open("a", encoding="ascii") as file:
            for judgement in judgements:
                file.write(json.dumps(asdict(judgement)) + "\n")
                self._remember(judgement)
            file.flush()
            os.fsync(file.fileno())
        if time.monotonic() - self._copied > COPY_SECONDS:
            self.copy()

    def _remember(self, judgement: Judgement) -> None:
        self.judged[judgement.key, judgement.first] = judgement


def _judgement(line: dict[str, object]) -> Judgement:
    values = {**line, "status": Status(str(line["status"]))}
    for name in ("rewards", "texts"):
        values[name] = tuple(values[name])  # type: ignore[arg-type]
    return Judgement(**values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _PendingItem:
    """An item of a batch that was sent, with the number of requests it takes up there."""

    item: Item
    first: int
    requests: int


@dataclass
class Scorer:
    """Judges the items that are missing from the log.

    Attributes:
        settings: how the judge is prompted.
        images: resolves the items' images.
        budget: check for prompts that are too long.
        log: where judgements are stored.
        batch_size: approximate number of requests per batch.
        sent_requests: requests of this session, if `score` keeps them to time the bare engine on them later.
    """

    settings: JudgeSettings
    images: ImageResolver
    budget: ContextBudget
    log: JudgementLog
    batch_size: int
    sent_requests: list[Request] = field(default_factory=list)

    def missing(self, items: Sequence[Item], both: bool) -> list[tuple[Item, int]]:
        """Pairs (item, index of the answer to show first) that are still to be judged.

        These are the ones that are not in the log, and those that were quarantined for a reason that may be gone: the
        image is there now, or the engine refused the request. Each item is judged in its pseudo-random order; with
        `both`, the opposite orders follow after all of these.
        """
        wanted = [(item, item.first) for item in items]
        wanted += [(item, 1 - item.first) for item in items if both]
        return [(item, first) for item, first in wanted if self._is_open(item, first)]

    def _is_open(self, item: Item, first: int) -> bool:
        judgement = self.log.judged.get((item.key, first))
        if judgement is None:
            return True
        return judgement.status is Status.QUARANTINED and self._problem(item, first) != judgement.reason

    def _problem(self, item: Item, first: int) -> str:
        """Why an item cannot be sent to the judge; "" if it can."""
        try:
            self._requests(item, first)
        except BadImage as error:
            return str(error)
        return ""

    def quarantine_leading(self, todo: Sequence[tuple[Item, int]]) -> list[tuple[Item, int]]:
        """Quarantine the items before the first one that can be sent to the judge; returns the rest.

        Nothing is left if no item can be judged: then the engine need not be started.
        """
        problems: list[Judgement] = []
        for item, first in todo:
            reason = self._problem(item, first)
            if not reason:
                break
            problems.append(Judgement(item.key, first, Status.QUARANTINED, reason=reason))
        self.log.add(problems)
        return list(todo[len(problems) :])

    def score(
        self, todo: Iterable[tuple[Item, int]], judge: JudgeFn, on_done: Callable[[int], None], keep: bool = False
    ) -> None:
        """Judge items and log the judgements.

        Args:
            todo: pairs from `missing`.
            judge: generates the outputs for batches of requests.
            on_done: called with the number of items that have just been judged.
            keep: whether to keep the requests in `sent_requests`.
        """
        pending: dict[int, list[_PendingItem]] = {}

        def batches() -> Iterator[Batch]:
            for number, (members, batch) in enumerate(self._batches(todo, on_done)):
                pending[number] = members
                if keep:
                    self.sent_requests += batch
                yield batch

        for number, outputs in judge(batches()):
            start, judgements = 0, []
            for member in pending.pop(number):
                end = start + member.requests
                judgements.append(decide(member.item, member.first, self.settings, outputs[start:end]))
                start = end
            self.log.add(judgements)
            on_done(len(judgements))

    def _batches(
        self, todo: Iterable[tuple[Item, int]], on_done: Callable[[int], None]
    ) -> Iterator[tuple[list[_PendingItem], Batch]]:
        """Batches of requests with their items; items that cannot be judged are quarantined here."""
        members: list[_PendingItem] = []
        batch: Batch = []
        for item, first in todo:
            try:
                requests = self._requests(item, first)
            except BadImage as error:
                self.log.add([Judgement(item.key, first, Status.QUARANTINED, reason=str(error))])
                on_done(1)
                continue
            members.append(_PendingItem(item, first, len(requests)))
            batch += requests
            if len(batch) >= self.batch_size:
                yield members, batch
                members, batch = [], []
        if batch:
            yield members, batch

    def _requests(self, item: Item, first: int) -> Batch:
        """Requests for an item; raises BadImage with the reason if the item must be quarantined."""
        if item.problem:
            raise BadImage(item.problem)
        image = None if item.image is None else self.images.uri(item.image)
        requests = build_requests(item, first, self.settings, image)
        if not all(self.budget.fits(request.text) for request in requests):
            raise BadImage(TOO_LONG)
        return requests


def primary_judgements(items: Sequence[Item], judged: Mapping[tuple[str, int], Judgement]) -> list[Judgement]:
    """The judgement of each item in its pseudo-random order, `Item.first`."""
    return [judged[item.key, item.first] for item in items]
