"""Readers for the public file formats: JSON, JSON lines and Parquet.

Errors name the file, the row, the column and the expected value.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from vlrm_ray.errors import UserError


class Record(BaseModel):
    """Base class of the row types; columns that a row type does not declare are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=Record)


def find_files(folder: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """Files that match the first glob pattern with any match, sorted by path.

    Args:
        folder: the benchmark's data folder.
        patterns: glob patterns, in order of preference.
        what: description of the expected files, for messages.

    Raises:
        UserError: the folder does not exist, or no pattern matches.
    """
    if not folder.is_dir():
        raise UserError(f"--data {folder} is not a folder; give the folder that contains {what}")
    for pattern in patterns:
        matches = sorted(p for p in folder.glob(pattern) if p.is_file())
        if matches:
            return matches
    raise UserError(
        f"--data {folder}: no file of this benchmark found; expected {what} ({' or '.join(patterns)}) in the folder"
    )


def read_rows(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Validated rows of a file with their numbers, from 1; raises UserError."""
    for number, value in _raw_rows(path):
        yield number, _validate(value, kind, path, number)


def json_lines(values: Sequence[Any]) -> str:
    """One JSON object per line, in ASCII, so that every text survives the encoding."""
    return "".join(json.dumps(value) + "\n" for value in values)


def _raw_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows of a Parquet, JSON-list or JSON-lines file with their numbers, not validated."""
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        yield from enumerate(_parquet(data, path), 1)
        return
    text = data.decode("utf-8-sig", errors="replace")
    if text.lstrip().startswith("["):
        yield from enumerate(_json_list(text, path), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also split at U+2028 inside a text
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise UserError(f"{path} row {number}: expected one JSON object per line, got {error}") from None


def _validate(value: Any, kind: type[R], path: Path, number: int) -> R:
    """Convert a row to its type; raises UserError that names file, row, column and expected value."""
    if not isinstance(value, dict):
        raise UserError(f"{path} row {number}: expected an object with columns, got {str(value)[:60]!r}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise UserError(
                f"{path} row {number}: expected a column '{column}', found {', '.join(map(str, value))}"[:300]
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{path} row {number}: column '{column}': {message}, got {str(first['input'])[:60]!r}"
        ) from None


def _parquet(data: bytes, path: Path) -> list[Any]:
    try:
        values: list[Any] = pq.read_table(io.BytesIO(data)).to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return values


def _json_list(text: str, path: Path) -> list[Any]:
    try:
        values: list[Any] = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: expected a JSON list of rows, got {error}") from None
    return values
