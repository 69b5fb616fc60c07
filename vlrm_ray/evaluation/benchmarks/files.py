"""Rows of benchmark files, converted to the benchmark's row type; `vlrm_ray.store.row_files` reads the files.

Errors name the file, the row, the column and the expected value.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vlrm_ray.errors import UserError
from vlrm_ray.store import row_files


class Record(BaseModel):
    """Base class of the row types; columns that a row type does not declare are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=Record)


def find_files(folder: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """Files that match the first glob pattern with any match, in lower or upper case, sorted by path.

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
        any_case = re.sub(r"[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", pattern)
        matches = sorted(p for p in folder.glob(any_case) if p.is_file())
        if matches:
            return matches
    raise UserError(
        f"--data {folder}: no file of this benchmark found; expected {what} ({' or '.join(patterns)}) in the folder"
    )


def read_rows(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Validated rows of a file with their numbers, from 1; raises UserError."""
    for number, value in row_files.read_rows(path):
        yield number, _validate(value, kind, path, number)


def image_of(value: Any) -> tuple[str | bytes | None, str]:
    """The image of a row in any of the usual forms, and the reason why the row cannot be judged if there is none."""
    try:
        return row_files.image_reference(value), ""
    except ValueError as error:
        return None, str(error)


def json_lines(values: Sequence[Any]) -> str:
    """One JSON object per line, in ASCII, so that every text survives the encoding."""
    return "".join(json.dumps(value) + "\n" for value in values)


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
