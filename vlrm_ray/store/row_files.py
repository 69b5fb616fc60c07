"""The one reader of row files, for prompts and benchmarks: JSON lines, a JSON list, or Parquet.

The content decides the format, not the name of the file. Text may be UTF-8, or UTF-16 and UTF-32 with a byte order
mark, and JSON files may be compressed with gzip, bzip2 or Zstandard. Errors name the file, the row, what was found and
what is expected.
"""

import base64
import binascii
import codecs
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.store.decoding import FORMATS
from vlrm_ray.store.images import read_bytes
from vlrm_ray.store.ledger import Ledger

EXPECTED = "JSON lines (one object per line), a JSON list of objects, or Parquet"
"""The supported formats, for messages."""
MIN_BASE64_CHARACTERS = 80
"""A shorter text is a path; no image is that small."""
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_PARQUET = b"PAR1"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of compressed files, with pyarrow's names of the codecs."""
_OTHER_FORMATS = {b"PK\x03\x04": "a ZIP or Excel file", b"ARROW1": "an Arrow file", b"Obj\x01": "an Avro file"}
"""First bytes of files that are not supported."""
_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by byte order mark; those of UTF-32 come before those of UTF-16, which they begin with."""
_PARQUET_BATCH = 64
"""Rows that are in memory at a time; a row may hold an image."""


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, Any]]:
    """Rows of a file with their numbers, not validated.

    Args:
        path: the file.
        columns: columns of a Parquet file to read, as far as it has them; empty reads all.

    Yields:
        Number and value of each row. Numbers start at 1; in a file of JSON lines they are those of the lines.

    Raises:
        UserError: the file is in no supported format.
    """
    with path.open("rb") as file:
        start = file.read(8)
    found = next((name for magic, name in _OTHER_FORMATS.items() if start.startswith(magic)), None)
    if found:
        raise UserError(f"{path} is {found}; expected {EXPECTED}")
    if start.startswith(_PARQUET):
        yield from _parquet_rows(path, columns)
        return
    text = _text(path)
    if text.lstrip().startswith("["):
        yield from enumerate(_json_list(text, path), 1)
    else:
        yield from _json_lines(text, path)


def _text(path: Path) -> str:
    """Text of a file; bytes that are not valid in its encoding are replaced."""
    data = path.read_bytes()
    codec = next((name for magic, name in _COMPRESSED.items() if data.startswith(magic)), None)
    if codec:
        try:
            data = pa.CompressedInputStream(pa.BufferReader(data), codec).read()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path} is a damaged {codec} file: {_first_line(error)}; copy it again") from None
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), "utf-8")
    return data.decode(encoding, errors="replace")


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    # splitlines() would also split at U+2028 inside a text
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if line.lstrip().startswith("{") and (whole := _one_object(text)) is not None:
                yield 1, whole
                return
            raise UserError(
                f"{path} row {number}: expected one JSON object per line, but line {number} is not JSON "
                f"({_first_line(error)}), got {line.strip()[:60]!r}; correct or remove the line, or give {EXPECTED}"
            ) from None
        yield number, value


def _one_object(text: str) -> dict[str, Any] | None:
    """The object of a file that holds only one, on several lines."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json_list(text: str, path: Path) -> list[Any]:
    try:
        values: list[Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON list of rows, got {_first_line(error)}") from None
    return values


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            present = [name for name in file.schema_arrow.names if name in columns] if columns else None
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH, columns=present or None):
                for value in batch.to_pylist():
                    number += 1
                    yield number, value
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        where = f" after row {number}" if number else ""
        raise UserError(f"{path} is not a readable Parquet file{where}: {_first_line(error)}; copy it again") from None


def image_reference(value: Any) -> str | bytes:
    """The image of a row in one of the usual forms.

    Args:
        value: a path or URI, base64 text, bytes, a struct {bytes, path} of Hugging Face data sets, or a list with one
            of these.

    Returns:
        A path, a URI or base64 text; or the content of the image's file.

    Raises:
        ValueError: there is no image, or more than one; the message is a reason for a quarantined row.
    """
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError("several_images" if value else "image_not_given")
        return image_reference(value[0])
    if isinstance(value, dict):
        return image_reference(value.get("bytes") or value.get("path"))
    if isinstance(value, bytes | bytearray) and value:
        return bytes(value)
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("image_not_given" if not value else "image_not_a_path")


def embedded_image(text: str) -> bytes | None:
    """Content of an image that is given as a data: URI or as base64 text; None for a path or another URI.

    Base64 text is recognized by the image file in it, because a long path can look like base64.

    Raises:
        BadImage: a data: URI cannot be decoded.
    """
    if text[:5].lower() == "data:":
        return read_bytes(text)
    if not is_base64(text):
        return None
    try:
        data = decode_base64(text)
        Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # not an image: Pillow's parsers raise many exception types
        return None
    return data


def is_base64(text: str) -> bool:
    """Whether a text that is no path may be the base64 text of an image."""
    return len(text) >= MIN_BASE64_CHARACTERS and _BASE64.fullmatch(text) is not None


def decode_base64(text: str) -> bytes:
    """Decode base64 text; raises BadImage."""
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError) as error:
        raise BadImage("image_undecodable") from error


def image_file(sha256: str) -> str:
    """Name in a ledger of an image that came inside a row."""
    return f"images/{sha256}"


def store_image_bytes(data: bytes, ledger: Ledger) -> str:
    """Store an image file once, under its content hash; returns its path or URI."""
    name = image_file(sha256_of(data))
    if ledger.fs.get_file_info(ledger.path(name)).size is None:
        ledger.put(name, data)
    return ledger.location(name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
