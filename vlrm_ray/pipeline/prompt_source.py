"""The prompts of a source as columns: each once, in its order, without their responses."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from vlrm_ray.ids import canonical_json
from vlrm_ray.types import PromptRef

_SCHEMA = pa.schema({"image": pa.string(), "question": pa.string(), "problem": pa.string(), "row": pa.int64()})
_GIVEN = pa.schema({"row": pa.int64(), "prompt": pa.int64()})
_BATCH = 4096
"""Prompts that are Python objects at a time."""


@dataclass(frozen=True)
class PromptSource:
    """The prompts of a source.

    Attributes:
        table: the prompts in the order of the source, each once, as columns `image`, `question`, `problem` and `row`: the
            number of the first row of a file with the prompt.
        remarks: what the user should know about it, one sentence each: the format of the rows, files and rows that are
            left out.
        given: the rows that bring responses, as columns `row`, its number in the file, and `prompt`, the index of its
            prompt; rows with the same prompt add their responses to it.
        unsaved: the key under which the run has yet to store them; "" if it has, or if they are soon read again. See
            `vlrm_ray.pipeline.prompt_index`.
    """

    table: pa.Table
    remarks: tuple[str, ...] = ()
    given: pa.Table = field(default_factory=_GIVEN.empty_table)
    unsaved: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[PromptRef]:
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            yield from _refs(batch)

    def take(self, indices: Sequence[int]) -> list[PromptRef]:
        """The prompts with some indices, in their order, without their responses."""
        return list(_refs(self.table.take(pa.array(indices, pa.int64()))))

    def images(self, indices: Sequence[int]) -> dict[str, int]:
        """The images of the prompts with some indices, each with the `row` of one of them."""
        table = self.table.take(pa.array(indices, pa.int64()))
        return dict(zip(table["image"].to_pylist(), table["row"].to_pylist(), strict=True))

    @property
    def sha256(self) -> str:
        """Hash of the prompts and of their order. The folder that all usable images have in common does not count."""
        ends = pc.min_max(self.table.filter(pc.equal(self.table["problem"], ""))["image"]).as_py()
        first, last = ends["min"] or "", ends["max"] or ""
        same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        folder, hashed = first.rfind("/", 0, same) + 1, hashlib.sha256()
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            rows = zip(*(batch[name].to_pylist() for name in ("image", "question", "problem")), strict=True)
            hashed.update(canonical_json([(image[folder:], *row) for image, *row in rows]).encode())
        return hashed.hexdigest()


def _refs(table: pa.Table | pa.RecordBatch) -> Iterator[PromptRef]:
    return (PromptRef(row["image"], row["question"], row["problem"]) for row in table.to_pylist())


class Collector:
    """Collects prompts into columns, each prompt once.

    Attributes:
        total: number of rows or files.
        responses: given responses that can be used.
        unusable: number of given responses that cannot be used, by reason.
    """

    def __init__(self) -> None:
        self.total = self.responses = 0
        self.unusable: Counter[str] = Counter()
        self._indices: dict[bytes, int] = {}
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[tuple[str, str, str, int]] = []
        self._rows, self._prompts = array("q"), array("q")

    @property
    def repeated(self) -> int:
        """Number of rows or files whose prompt was there already."""
        return self.total - len(self._indices)

    def add(self, ref: PromptRef, row: int = 0) -> None:
        """Add the prompt of a row, unless it is there already, and note the row if it brings responses."""
        self.total += 1
        key = blake2b("\0".join((ref.image, ref.question, ref.problem)).encode(), digest_size=16).digest()
        known = len(self._indices)
        index = self._indices.setdefault(key, known)
        if index == known:
            self._pending.append((ref.image, ref.question, ref.problem, row))
        if ref.responses:
            self._rows.append(row)
            self._prompts.append(index)
            self.responses += sum(not response.problem for response in ref.responses)
            self.unusable.update(response.problem for response in ref.responses if response.problem)
        if len(self._pending) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._pending, strict=True) if self._pending else [()] * len(_SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
        self._batches.append(pa.record_batch(arrays, _SCHEMA))
        self._pending = []

    def source(self, remarks: Sequence[str]) -> PromptSource:
        """The collected prompts."""
        self._flush()
        given = pa.table([pa.array(self._rows, pa.int64()), pa.array(self._prompts, pa.int64())], schema=_GIVEN)
        return PromptSource(pa.Table.from_batches(self._batches, _SCHEMA), tuple(remarks), given)
