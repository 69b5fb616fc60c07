"""Cache of a model's answers, keyed by content: an answer is computed once, across rounds, restarts and runs.

    evidence/<expert>/shard-<hash>.parquet     columns `key` (string) and `answer` (typed), one row per answer
    evidence/<expert>/keys/<hash>.parquet      columns `shard` and `keys`, one row per shard; see cache_keys.py

The answers that one call computes become one shard, so there are as many files as parts, not as images. The driver of a run
collects the keys of many shards in one file, so a cache reads few files to know what there is. It does so at the first
lookup, and again at a later miss. Of the shards that are in no key file yet it reads the keys of some: so another actor's
new answers are found, but a cache of thousands of shards is not read by each actor for itself.
"""

import io
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vlrm_ray.ids import digest, sha256_of
from vlrm_ray.store.arrow_types import Codec, codec
from vlrm_ray.store.ledger import Ledger

T = TypeVar("T")
READERS = 16
"""Shards that are read at the same time."""
LIST_SECONDS = 20.0
"""Time between two looks for shards that others have added: a listing of thousands of them is not worth every new image."""
SINGLE_SHARDS = 256
"""Most shards without a key file whose keys a cache reads. To miss an answer costs its computation, to find it three requests."""
FOLDER, KEYS = "evidence", "keys"
SHARDS_IN_MEMORY = 64
"""Shards whose answers are kept in memory."""


class AnswerCache(Generic[T]):
    """Answers of one expert or model, in a ledger's folder `evidence/<expert>/`.

    An answer is a tuple of `kind` values: the detections or the words of an image, or the responses to a prompt.

    Attributes:
        lookups: number of keys looked up so far.
        hits: number of lookups that were answered without calling the expert.
        reported_hits: those of them that have been reported; the owner counts them.
    """

    def __init__(self, ledger: Ledger, expert: str, kind: type[T]) -> None:
        """Open the cache.

        Args:
            ledger: where the answers are stored.
            expert: name of the folder; contains a fingerprint of all that changes the answers.
            kind: type of the values of an answer.
        """
        self.ledger, self.folder = ledger, f"{FOLDER}/{expert}"
        self.answers: Codec = codec(tuple[kind, ...])  # type: ignore[valid-type]
        self.shard_of: dict[str, str] = {}
        self.known: set[str] = set()
        self.shards: OrderedDict[str, dict[str, tuple[T, ...]]] = OrderedDict()
        self.lookups = self.hits = self.reported_hits = 0
        self.readable = SINGLE_SHARDS
        self.lock, self.listed = Lock(), -math.inf

    def get_or_compute(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], list[tuple[T, ...]]],
        store: Callable[[tuple[T, ...]], bool] = lambda answer: True,
    ) -> list[tuple[T, ...]]:
        """Answers for all keys, in order.

        Args:
            keys: keys to look up, such as the sha256 of image files.
            compute: called once, with the positions in `keys` of the answers that are missing (each key once);
                returns these answers in the same order. Not called if nothing is missing.
            store: whether to keep a computed answer; others are computed again the next time.
        """
        positions = {key: position for position, key in reversed(list(enumerate(keys)))}
        found = self.get(list(positions))
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        self.lookups += len(keys)
        self.hits += len(keys) - len(missing)
        if missing:
            computed = dict(zip(missing, compute([positions[key] for key in missing]), strict=True))
            self.put({key: answer for key, answer in computed.items() if store(answer)})
            found |= computed
        return [found[key] for key in keys]

    def get(self, keys: Sequence[str]) -> dict[str, tuple[T, ...]]:
        """The answers that are stored, by key. Several threads may look up and store at the same time."""
        with self.lock:
            if any(key not in self.shard_of for key in keys) and time.monotonic() - self.listed >= LIST_SECONDS:
                self._find_shards()
                self.listed = time.monotonic()
            found = self._stored(keys)
        return {key: found[key] for key in keys if key in found}

    def put(self, answers: dict[str, tuple[T, ...]]) -> None:
        """Store answers as one shard."""
        if not answers:
            return
        values = self.answers.encode(list(answers.values()))
        table = pa.table({"key": pa.array(answers, pa.string()), "answer": values})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        name = f"shard-{digest(*sorted(answers))}-{sha256_of(sink.getvalue())[:8]}.parquet"
        self.ledger.put(f"{self.folder}/{name}", sink.getvalue())
        with self.lock:
            self._remember(name, list(answers))
            self._keep(name, dict(answers))

    def _find_shards(self) -> None:
        """Read the key files that were added since the last time, and the keys of some shards that are in none."""
        with ThreadPoolExecutor(READERS) as readers:
            files = self._new(f"{self.folder}/{KEYS}", "")
            for shards in readers.map(partial(read_key_file, self.ledger, self.folder), files):
                for shard, keys in shards.items():
                    self._remember(shard, keys)
            self.known.update(files)
            single = self._new(self.folder, "shard-")[: self.readable] if self.readable else []
            self.readable -= len(single)
            keys_of_single = readers.map(partial(read_keys, self.ledger, self.folder), single)
            for name, keys in zip(single, keys_of_single, strict=True):
                self._remember(name, keys)

    def _new(self, folder: str, prefix: str) -> list[str]:
        return [name for name in self.ledger.names(folder, prefix, ".parquet") if name not in self.known]

    def _stored(self, keys: Sequence[str]) -> dict[str, tuple[T, ...]]:
        """The answers to keys. Each shard is read once, many at the same time: there may be more than are kept in memory."""
        asked: dict[str, list[str]] = {}
        for key in keys:
            if (name := self.shard_of.get(key)) is not None:
                asked.setdefault(name, []).append(key)
        found: dict[str, tuple[T, ...]] = {}
        for name, shard in self._opened(asked):
            self._keep(name, shard)
            found |= {key: shard[key] for key in asked[name] if key in shard}
        return found

    def _opened(self, names: Iterable[str]) -> Iterator[tuple[str, dict[str, tuple[T, ...]]]]:
        """The shards with some names, those in memory first; without those that are deleted or damaged."""
        kept = {name: self.shards[name] for name in names if name in self.shards}
        yield from kept.items()
        missing = [name for name in names if name not in kept]
        with ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(missing), READERS):  # no more are in memory, however many there are
                group = missing[start : start + READERS]
                tables = readers.map(partial(read_shard, self.ledger, self.folder), group)
                for name, table in zip(group, tables, strict=True):
                    if table is not None:
                        yield name, self._decoded(table)

    def _decoded(self, table: pa.Table) -> dict[str, tuple[T, ...]]:
        answers = self.answers.decode(table.column("answer").combine_chunks())
        return dict(zip(table.column("key").to_pylist(), answers, strict=True))

    def _remember(self, name: str, keys: Sequence[str]) -> None:
        self.known.add(name)
        self.shard_of.update(dict.fromkeys(keys, name))

    def _keep(self, name: str, answers: dict[str, tuple[T, ...]]) -> None:
        self.shards[name] = answers
        self.shards.move_to_end(name)
        while len(self.shards) > SHARDS_IN_MEMORY:
            self.shards.popitem(last=False)


def read_shard(ledger: Ledger, folder: str, name: str) -> pa.Table | None:
    """The keys and answers of a shard in a folder; None if it is damaged or deleted."""
    return ledger.read_table(f"{folder}/{name}", ["key", "answer"])


def read_keys(ledger: Ledger, folder: str, name: str) -> list[str]:
    """The keys of a shard in a folder; [] if it is damaged or deleted."""
    table = ledger.read_table(f"{folder}/{name}", ["key"])
    return [] if table is None else list(table.column("key").to_pylist())


def read_key_file(ledger: Ledger, folder: str, name: str) -> dict[str, list[str]]:
    """The keys by shard that a key file of a folder holds; {} if it is damaged or deleted."""
    table = ledger.read_table(f"{folder}/{KEYS}/{name}")
    return {} if table is None else dict(zip(*(table.column(c).to_pylist() for c in ("shard", "keys")), strict=True))
