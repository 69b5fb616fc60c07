"""The keys of the answers in a ledger's caches, collected by the driver, so that not every actor reads every shard for them.

A cache of 200,000 images has thousands of shards, and the experts of a round are new actors that know none of them. The driver
reads the keys of new shards while a round is gathered, and writes those of each folder as one key file at its end. At its start
it does so for the shards that a killed session has left.

Shards and key files are named by their content and never change. Several drivers that share a cache may collect the same
shards: then two key files name them, which does no harm. A key file says what was there when it was written; a shard that is
deleted afterwards counts as missing (see `cache.py`).
"""

import io
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from vlrm_ray.errors import StorageError, first_line
from vlrm_ray.ids import digest
from vlrm_ray.store.cache import FOLDER, KEYS, READERS, read_key_file, read_keys
from vlrm_ray.store.ledger import Ledger

LEAST_SHARDS = 64
"""Shards of a folder that are worth a key file. The keys of fewer are read out of the shards themselves."""
_LOG = logging.getLogger(__name__)


class CacheKeys:
    """Collects the keys of all caches of a ledger.

    Its methods are safe for use by several threads. A storage that fails is logged: key files only save time.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Collect the keys in a ledger's folder `evidence`."""
        self.ledger, self._lock = ledger, Lock()
        self._known: dict[str, set[str]] = {}
        self._new: dict[str, dict[str, list[str]]] = {}

    def update(self) -> None:
        """`read`, then `write`."""
        self.read()
        self.write()

    def read(self) -> None:
        """Read the keys of the shards that are in no key file and have not been read before."""
        with self._lock, _logged():
            for name in self.ledger.names(FOLDER, "", ""):
                if "." not in name:  # a folder
                    self._read(f"{FOLDER}/{name}")

    def write(self) -> None:
        """Write what was read: one key file for each folder with enough new shards."""
        with self._lock, _logged():
            for folder, shards in self._new.items():
                if len(shards) >= LEAST_SHARDS:
                    sink, name = io.BytesIO(), f"{digest(*sorted(shards))}.parquet"
                    table = pa.table({"shard": list(shards), "keys": list(shards.values())})
                    pq.write_table(table, sink, compression="zstd")
                    self.ledger.put(f"{folder}/{KEYS}/{name}", sink.getvalue())
                    self._known[folder].add(name)
                    self._new[folder] = {}

    def _read(self, folder: str) -> None:
        known = self._known.setdefault(folder, set())
        with ThreadPoolExecutor(READERS) as readers:
            files = [name for name in self.ledger.names(f"{folder}/{KEYS}", "", ".parquet") if name not in known]
            for name, shards in zip(
                files, readers.map(partial(read_key_file, self.ledger, folder), files), strict=True
            ):
                known.update([name, *shards])
            new = [name for name in self.ledger.names(folder, "shard-", ".parquet") if name not in known]
            found = dict(zip(new, readers.map(partial(read_keys, self.ledger, folder), new), strict=True))
        known.update(new)
        self._new.setdefault(folder, {}).update(found)


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        _LOG.warning("the keys of cached answers were not collected: %s", first_line(error))
