"""Files in public formats: JSON, JSON lines and Parquet, with errors that name file, row and expectation."""

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
    """Base of the row types: unknown columns are kept aside, texts must be texts."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=Record)


def find(folder: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """Files of the first pattern that has any, sorted; raises UserError naming what was expected."""
    if not folder.is_dir():
        raise UserError(f"--data {folder} is no folder; give the folder that holds {what}")
    for pattern in patterns:
        found = sorted(p for p in folder.glob(pattern) if p.is_file())
        if found:
            return found
    raise UserError(f"{folder} is not the data of this benchmark: expected {what} ({' or '.join(patterns)})")


def rows(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Validated rows with their numbers, from 1; raises UserError."""
    for number, value in raw_rows(path):
        yield number, check(value, kind, path, number)


def raw_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows as they stand, with their numbers: of Parquet, of a JSON list, or of JSON lines."""
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        yield from enumerate(_parquet(data, path), 1)
        return
    text = data.decode("utf-8-sig", errors="replace")
    if text.lstrip().startswith("["):
        yield from enumerate(_json_list(text, path), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would cut at U+2028 inside a text
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise UserError(f"{path} row {number}: expected one JSON object per line, got {error}") from None


def check(value: Any, kind: type[R], path: Path, number: int) -> R:
    """A row as its type; raises UserError naming file, row, column and what was expected."""
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


def json_lines(values: Sequence[Any]) -> str:
    """One JSON object per line; ASCII, so that any text survives."""
    return "".join(json.dumps(value) + "\n" for value in values)


def _parquet(data: bytes, path: Path) -> list[Any]:
    try:
        found: list[Any] = pq.read_table(io.BytesIO(data)).to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return found


def _json_list(text: str, path: Path) -> list[Any]:
    try:
        found: list[Any] = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: expected a JSON list of rows, got {error}") from None
    return found
