"""The prompts of a file whose rows hold their images, stored with the run, so that the images are not read at each start."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlrm_ray.ids import digest
from vlrm_ray.pipeline.prompt_rows import EMBEDDED
from vlrm_ray.pipeline.prompt_source import PromptSource
from vlrm_ray.store.filesystem import is_remote
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.sources import Source

FILE = "prompts.parquet"
"""File of the run with the prompts of its source, without images and responses."""
_FORMAT = 1
"""To be raised whenever a file is read into other prompts, or they are stored in another way."""
_KEY, _REMARKS = b"vlrm_key", b"vlrm_remarks"
"""Metadata of the file: what it was made from, and `PromptSource.remarks`."""


def key_of(source: str, found: Source) -> str:
    """What the prompts of a file depend on: `prompts.source`, where that is, its size and the time of its last change."""
    where = found.uri if is_remote(found.uri) else os.path.realpath(found.uri)
    return digest(_FORMAT, source, where, found.state)


def load(run: str, key: str) -> PromptSource | None:
    """The prompts that a run has stored; None if there are none, or if they were made from something else.

    Args:
        run: path or URI of the run's folder.
        key: `key_of` the source as it is now.
    """
    table = Ledger(run).read_table(FILE)
    metadata = {} if table is None else table.schema.metadata or {}
    if table is None or metadata.get(_KEY) != key.encode():
        return None
    lists = pa.concat_arrays(table["given"].chunks) if table.num_rows else pa.array([], pa.list_(pa.int64()))
    given = pa.table({"row": pc.list_flatten(lists), "prompt": pc.list_parent_indices(lists).cast(pa.int64())})
    prompts = table.drop_columns(["given"]).replace_schema_metadata(None)
    return PromptSource(prompts, tuple(json.loads(metadata[_REMARKS])), given.sort_by("row"))


def has_images(prompts: PromptSource) -> bool:
    """Whether the image of any prompt is inside its row."""
    return bool(pc.any(pc.starts_with(prompts.table["image"], EMBEDDED)).as_py())


def save(ledger: Ledger, prompts: PromptSource) -> None:
    """Store the prompts of a source with a run, under their `unsaved` key."""
    given = prompts.given.sort_by([("prompt", "ascending"), ("row", "ascending")])
    counts = np.bincount(given["prompt"].to_numpy(), minlength=len(prompts))
    lists = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), given["row"].combine_chunks()
    )
    metadata = {_KEY: prompts.unsaved.encode(), _REMARKS: json.dumps(prompts.remarks).encode()}
    table, sink = prompts.table.append_column("given", lists).replace_schema_metadata(metadata), io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    ledger.put(FILE, sink.getvalue())
