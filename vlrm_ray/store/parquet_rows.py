"""Rows of a Parquet file: one after the other, or its row groups at the same time.

A file of an object store is read at several places at the same time, because each read waits for the storage. A row may hold
an image, so few rows are in memory at a time.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vlrm_ray.errors import UserError, first_line
from vlrm_ray.store.filesystem import may_pass, open_filesystem, redacted, storage_errors
from vlrm_ray.store.patience import patiently

MAGIC = b"PAR1"
"""First bytes of a Parquet file."""
GROUPS_AT_ONCE = 8
"""Most row groups that are read at the same time."""
MEMORY_BYTES = 1 << 30
"""Fewer are read if they hold more than this together: a writer may put all images of a row group into one page."""
_BATCH = 64
"""Rows that are in memory at a time."""
_BUFFER_BYTES = 1 << 20
_GROUP_BUFFER_BYTES = 4 << 20
"""Bytes that are read from the storage at a time, of a file and of each row group."""

T = TypeVar("T")


def all_rows(file: pa.NativeFile, name: str, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Rows of an open file with their numbers from 1; with some of its columns, or with all if none is named."""
    number = 0
    with _readable(name, lambda: number):
        parquet = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        for batch in parquet.iter_batches(batch_size=_BATCH, columns=_present(parquet, columns)):
            for value in batch.to_pylist():
                number += 1
                yield number, value


def mapped_rows(
    source: str, columns: Sequence[str], work: Callable[[int, Any], T], rows: Collection[int] | None = None
) -> Iterator[T]:
    """What a function makes of rows of a file, in their order; their row groups are read at the same time.

    Args:
        source: path or URI of the file.
        columns: the columns to read, as far as it has them.
        work: gets the number of a row, from 1, and the row. It is called in several threads, and again for rows whose
            row group is read again because the storage failed.
        rows: numbers of the rows to read; None for all. Row groups without any are not read.
    """
    metadata = patiently(lambda: _metadata(source), source)
    ends = list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
    ordered = None if rows is None else sorted(rows)
    wanted: list[tuple[int, int, list[int] | None]] = []
    for group, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        inside = None if ordered is None else ordered[bisect_right(ordered, start) : bisect_right(ordered, end)]
        if inside is None or inside:
            wanted.append((group, start, inside))

    def read(group: int, start: int, inside: list[int] | None) -> list[T]:
        return patiently(lambda: _read_group(source, metadata, group, start, columns, work, inside), source)

    largest = max((_bytes_of(metadata, group, columns) for group, _, _ in wanted), default=1)
    at_once = max(1, min(GROUPS_AT_ONCE, MEMORY_BYTES // max(1, largest)))
    pool, pending = ThreadPoolExecutor(at_once), deque[Future[list[T]]]()
    try:
        for arguments in wanted:
            if len(pending) == at_once:
                yield from pending.popleft().result()
            pending.append(pool.submit(read, *arguments))
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _metadata(source: str) -> pq.FileMetaData:
    filesystem, path = open_filesystem(source)
    with _readable(redacted(source), lambda: 0), filesystem.open_input_file(path) as file:
        return pq.read_metadata(file)


def _bytes_of(metadata: pq.FileMetaData, group: int, columns: Sequence[str]) -> int:
    """Uncompressed size of some columns of a row group."""
    chunks = map(metadata.row_group(group).column, range(metadata.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


def _read_group(
    source: str,
    metadata: pq.FileMetaData,
    group: int,
    start: int,
    columns: Sequence[str],
    work: Callable[[int, Any], T],
    rows: list[int] | None,
) -> list[T]:
    """What the function makes of the rows of a row group that begins after row `start`."""
    filesystem, path = open_filesystem(source)
    number, made = start, list[T]()
    with _readable(redacted(source), lambda: number), filesystem.open_input_file(path) as file:
        parquet = pq.ParquetFile(file, metadata=metadata, buffer_size=_GROUP_BUFFER_BYTES, pre_buffer=False)
        for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=_present(parquet, columns)):
            here: Sequence[int] = range(number + 1, number + 1 + batch.num_rows)
            number += batch.num_rows
            if rows is not None:
                here = [row for row in rows if row in here]
                places = [row - number - 1 + batch.num_rows for row in here]
                batch = batch.take(pa.array(places, pa.int64()))  # of an empty list, pyarrow would not know the type
            made += map(work, here, batch.to_pylist())
            if rows is not None and number >= rows[-1]:
                break
    return made


def _present(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[str] | None:
    """The named columns that a file has; None for all."""
    return [column for column in parquet.schema_arrow.names if column in columns] or None


@contextmanager
def _readable(name: str, row: Callable[[], int]) -> Iterator[None]:
    """Context manager: errors of a damaged file name it and the last row that was read."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if may_pass(error, name):
            with storage_errors("read", name):
                raise
        where = f" after row {row()}" if row() else ""
        raise UserError(f"{name} is not a readable Parquet file{where}: {first_line(error)}; copy it again") from None
