"""A file of responses to score, and its scores: in parts beside the output, and joined with the rows in the end.

    scores.parquet                        the rows of the data with the columns of `COLUMNS`, once all parts are there
    scores.parquet.parts/scoring.json     what the scores are of: data, model, settings, rows of a part
    scores.parquet.parts/part-00000.parquet   scores of the first rows

Parts hold row numbers and scores only. Rows are read one after the other, when their requests are made and when the
output is written, so files may be larger than the memory.
"""

import base64
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.reward.scoring import Score
from vlrm_ray.store.filesystem import (
    below,
    beside,
    file_uri_path,
    is_remote,
    open_filesystem,
    redacted,
    storage_errors,
    write_atomically,
)
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_files import read_csv_rows, read_rows

SCHEMA = pa.schema(
    [
        ("reward", pa.float64()),
        ("label_mass", pa.float64()),
        ("critiques", pa.list_(pa.string())),
        ("critique_rewards", pa.list_(pa.float64())),
        ("reason", pa.string()),
    ]
)
"""Columns that the output adds to those of the data."""
OUTPUTS = (".parquet", ".jsonl")
"""Suffixes of an output, which decide its format."""
IDENTITY = "scoring.json"
_BATCH = 64
"""Rows whose types are found at a time; a row may hold an image."""
_EXACT = 1 << 53
"""Larger integers have no exact floating-point number, so a column with both is stored as JSON text."""
_NEEDED = (("image", "images"), ("question",), ("response",))
_SEVERAL = ("responses", "chosen", "conversations", "ranking")
"""Columns of prompt files and preference data that hold several responses to a question."""
_ROW_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Suffixes of the files of a folder that are read, before one of a compressed file."""
_OF_THE_TEXTS = {
    f"{n}_{w}" for n in ("question", "response") for w in ("missing", "not_text", "with_invalid_characters")
}
_OF_THE_IMAGE = {"image_not_given", "image_not_a_path", "image_path_not_text", "several_images"}
_OF_THE_ROW = _OF_THE_TEXTS | _OF_THE_IMAGE | {"longer_than_the_model_takes"}
"""Reasons that do not pass as long as the row is the same."""


@dataclass(frozen=True)
class ScoreData:
    """Rows with the columns image (or images), question and response.

    Attributes:
        source: path or URI of the file, or of a folder of files, which are read in the order of their names.
        sha256: hash of their content.
        rows: number of rows.
        schema: columns and their types, as Parquet stores them.
        as_json: columns with values of several kinds, which Parquet stores as JSON text.
    """

    source: str
    sha256: str
    rows: int
    schema: pa.Schema
    as_json: frozenset[str]

    @classmethod
    def open(cls, source: str) -> "ScoreData":
        """Read a file once, to check all of its rows before anything starts.

        Raises:
            UserError: the file does not exist, has no rows, is damaged, or lacks a column.
        """
        source = _place(source)
        if not is_remote(source) and not os.path.exists(source):
            raise UserError(
                f"--data {source}: file not found; give a file of rows (.jsonl, .json, .csv or .parquet), or a folder of them"
            )
        types: dict[str, pa.DataType | None] = {}
        count, no_floats = 0, set[str]()
        for rows in _grouped(_rows(source), _BATCH):
            count += len(rows)
            for name in dict.fromkeys(name for row in rows for name in row):
                values = [row.get(name) for row in rows]
                types[name] = _merged(types.get(name, pa.null()), values)
                if any(isinstance(value, int) and abs(value) > _EXACT for value in values):
                    no_floats.add(name)
        types |= {name: None for name in no_floats if types[name] and pa.types.is_floating(types[name])}
        shown = redacted(source)
        if not count:
            raise UserError(f"--data {shown} has no rows; expected rows with the columns image, question and response")
        for names in _NEEDED:
            if types.keys().isdisjoint(names):
                several = [name for name in _SEVERAL if name in types and names == ("response",)]
                mend = f"write a row for each response of '{several[0]}'" if several else "rename the column"
                raise UserError(
                    f"--data {shown} has no column '{names[0]}', only {', '.join(map(repr, types))[:200]}; {mend}"
                )
        if taken := sorted(types.keys() & set(SCHEMA.names)):
            raise UserError(
                f"--data {shown} has already a column '{taken[0]}', which the scores would replace; rename it"
            )
        schema = pa.schema([(name, kind or pa.string()) for name, kind in types.items()])
        return cls(source, _sha256(source), count, schema, frozenset(name for name, kind in types.items() if not kind))

    def parts(self, size: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Number and rows of each part of at most `size` rows, read one after the other."""
        return enumerate(_grouped(_rows(self.source), size))

    def locate(self, images: str) -> Callable[[str], str]:
        """Function that converts the path of an image, relative to a folder, to a path or URI.

        Args:
            images: path or URI of the folder; "" for the folder of the file.
        """
        if not images and is_remote(self.source):
            place = beside if files_of(self.source) == [self.source] else below
            return lambda path: path if os.path.isabs(path) else place(self.source, path)
        if is_remote(images):
            return lambda path: path if os.path.isabs(path) else below(images, path)
        own = self.source if os.path.isdir(self.source) else os.path.dirname(self.source)
        folder = _place(images) if images else own
        return lambda path: os.path.join(folder, path)


class ScoreFile:
    """The output: parts that are finished, and the file that is made of them.

    Attributes:
        out: path or URI of the output.
        ledger: folder of the parts.
    """

    def __init__(self, out: str) -> None:
        """Prepare an output; raises UserError if its suffix names no format."""
        if not self._name(out).endswith(OUTPUTS):
            raise UserError(f"--out {redacted(out)}: expected a name that ends in {' or '.join(OUTPUTS)}")
        self.out = _place(out)
        location, mark, options = self.out.partition("?") if is_remote(out) else (self.out, "", "")
        self.ledger = Ledger(f"{location}.parts{mark}{options}")

    @staticmethod
    def _name(out: str) -> str:
        return out.partition("?")[0] if is_remote(out) else out

    def bind(self, identity: dict[str, Any], rows_of_part: int) -> int:
        """Record what the scores are of, or check that it is the same as before.

        Returns:
            Rows of a part: `rows_of_part`, or that of the parts which are there.

        Raises:
            UserError: the parts are of other data, of another model or of other settings, or the output is another file.
        """
        shown, recorded = redacted(self.out), self.ledger.get_json(IDENTITY)
        if recorded is None:
            filesystem, path = open_filesystem(self.out)
            with storage_errors("read", self.out):
                exists = filesystem.get_file_info(path).type.name != "NotFound"
            if exists:
                raise UserError(
                    f"--out {shown} exists and was not written by this command; give another name, or delete it"
                )
            self.ledger.put_json(IDENTITY, {**identity, "rows_of_part": rows_of_part})
            return rows_of_part
        changed = [f"{k}: {recorded.get(k)} -> {v}" for k, v in identity.items() if recorded.get(k) != v]
        if changed:
            raise UserError(
                f"--out {shown} has scores of other data, another model or other settings ({'; '.join(changed)[:200]}); give "
                f"another name, or delete {redacted(self.ledger.uri)} and the file to start anew"
            )
        return int(recorded["rows_of_part"])

    def put(self, part: int, scores: Sequence[Score]) -> None:
        """Commit the scores of a part's rows."""
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([asdict(score) for score in scores], SCHEMA), sink, compression="zstd")
        self.ledger.put(_part(part), sink.getvalue())

    def finished(self, *, without_failed: bool = False) -> set[int]:
        """Numbers of the committed parts.

        Args:
            without_failed: whether to leave out parts with rows that have no reward and may get one, so that these are scored
                again.
        """
        numbers = {int(name[5:-8]) for name in self.ledger.names("", "part-", ".parquet")}
        return {n for n in numbers if not (without_failed and any(map(may_get_a_reward, self._column(n, "reason"))))}

    def scores(self, part: int) -> list[Score]:
        """The committed scores of a part; none if it is not committed."""
        table = self.ledger.read_table(_part(part))
        rows = table.to_pylist() if table is not None else []
        return [
            Score(r["reward"], r["label_mass"], tuple(r["critiques"]), r["reason"], tuple(r["critique_rewards"]))
            for r in rows
        ]

    def _column(self, part: int, name: str) -> list[Any]:
        return list(self._part(part).column(name).to_pylist())

    def reasons(self, parts: Iterable[int]) -> list[str]:
        """Why rows have no reward, one reason for each row; "" for rows that have one."""
        return [reason for part in parts for reason in self._column(part, "reason")]

    def _part(self, part: int) -> pa.Table:
        table = self.ledger.read_table(_part(part))
        if table is None:
            where = redacted(self.ledger.location(_part(part)))
            raise StorageError(f"{where} is missing or damaged; delete it, then run the same command again")
        return table

    def write(self, data: ScoreData, rows_of_part: int) -> None:
        """Write the output: all rows of the data with their scores, in their order."""
        filesystem, path = open_filesystem(self.out, writes=True)
        write = self._write_parquet if self._name(self.out).endswith(".parquet") else self._write_lines
        with tempfile.TemporaryFile() as file:
            write(file, data, rows_of_part)
            file.seek(0)
            with storage_errors("write", self.out):
                write_atomically(filesystem, path, file)

    def _joined(self, data: ScoreData, rows_of_part: int) -> Iterator[tuple[list[dict[str, Any]], pa.Table]]:
        for number, rows in data.parts(rows_of_part):
            yield rows, self._part(number)

    def _write_parquet(self, file: Any, data: ScoreData, rows_of_part: int) -> None:
        with pq.ParquetWriter(file, pa.schema([*data.schema, *SCHEMA]), compression="zstd") as writer:
            for rows, scores in self._joined(data, rows_of_part):
                columns = {
                    field.name: pa.array(
                        [_value(row.get(field.name), field.name in data.as_json) for row in rows], field.type
                    )
                    for field in data.schema
                }
                writer.write_table(pa.table(columns | dict(zip(SCHEMA.names, scores.columns, strict=True))))

    def _write_lines(self, file: Any, data: ScoreData, rows_of_part: int) -> None:
        for rows, scores in self._joined(data, rows_of_part):
            for row, score in zip(rows, scores.to_pylist(), strict=True):
                file.write((json.dumps(row | score, default=_plain) + "\n").encode())


def part_size(rows: int, actors: int, largest: int = 128, smallest: int = 8) -> int:
    """Rows of a part: at most `largest`, and so few that each actor gets several parts."""
    return max(smallest, min(largest, rows // (4 * actors)))


def _place(uri: str) -> str:
    """A URI unchanged, or the absolute path of a local file."""
    if is_remote(uri):
        return uri
    return os.path.abspath(file_uri_path(uri) if uri[:6].lower() == "file:/" else uri)


def may_get_a_reward(reason: str) -> bool:
    """Whether a row without a reward for this reason may get one when it is scored again."""
    return bool(reason) and reason not in _OF_THE_ROW


def files_of(source: str) -> list[str]:
    """A file itself, or the files of rows in a folder, by name.

    Raises:
        UserError: a folder has none.
    """
    filesystem, path = open_filesystem(source)
    with storage_errors("read", source):
        if filesystem.get_file_info(path).type is not fs.FileType.Directory:
            return [source]
        names = sorted(found.base_name for found in filesystem.get_file_info(fs.FileSelector(path)) if found.is_file)
    rows = [name for name in names if not {*Path(name.lower()).suffixes[-2:]}.isdisjoint(_ROW_FILES)]
    if not rows:
        raise UserError(f"--data {redacted(source)} is a folder without a file of rows ({', '.join(_ROW_FILES)})")
    return [below(source, name) if is_remote(source) else os.path.join(source, name) for name in rows]


def _rows(source: str) -> Iterator[dict[str, Any]]:
    """Rows of a file of any supported format, or of the files of a folder."""
    for file in files_of(source):
        suffixes = Path((file.partition("?")[0] if is_remote(file) else file).lower()).suffixes[-2:]
        is_csv = not {".csv", ".tsv"}.isdisjoint(suffixes)
        for number, row in read_csv_rows(file) if is_csv else read_rows(file):
            if not isinstance(row, dict):
                raise UserError(
                    f"--data {redacted(file)} row {number}: expected an object with image, question and response, got "
                    f"{str(row)[:60]!r}; correct or remove the row"
                )
            yield _encodable(row)


def _encodable(value: Any) -> Any:
    """A value in whose texts half of a surrogate pair, which no encoding has (an emoji that was cut), is a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _grouped(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, size)):
        yield group


def _merged(kind: pa.DataType | None, values: list[Any]) -> pa.DataType | None:
    """The type of a column with further values; None if they have no type in common, or one that Parquet cannot store."""
    if kind is None:
        return None
    try:
        schemas = [pa.schema([("", kind)]), pa.schema([("", pa.array(values).type)])]
        merged = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, OverflowError):
        return None
    return None if "struct<>" in str(merged) else merged


def _value(value: Any, as_json: bool) -> Any:
    return value if value is None or not as_json else json.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    """Text of a value that JSON does not have: bytes as base64, times and numbers as they are written."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _sha256(source: str) -> str:
    found = []
    for file in files_of(source):
        filesystem, path = open_filesystem(file)
        with storage_errors("read", file), filesystem.open_input_stream(path) as stream:
            found.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return found[0] if len(found) == 1 else sha256_of("\n".join(found).encode())


def _part(number: int) -> str:
    return f"part-{number:05d}.parquet"
