"""The one reader of row files, for prompts and benchmarks: JSON lines, a JSON list, or Parquet.

The content decides the format, not the name of the file. Text may be UTF-8, or UTF-16 and UTF-32 with a byte order
mark, and JSON files may be compressed with gzip, bzip2 or Zstandard. Errors name the file, the row, what was found and
what is expected.
"""

import base64
import binascii
import codecs
import csv
import io
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

import pyarrow as pa
from PIL import Image

from vlrm_ray.errors import BadImage, UserError, first_line
from vlrm_ray.ids import sha256_of
from vlrm_ray.store import parquet_rows
from vlrm_ray.store.decoding import FORMATS
from vlrm_ray.store.filesystem import may_pass, open_filesystem, redacted, storage_errors
from vlrm_ray.store.images import read_bytes
from vlrm_ray.store.ledger import Ledger

EXPECTED = "JSON lines (one object per line), a JSON list of objects, or Parquet"
"""The supported formats, for messages."""
_WRITERS = 32
"""Images that are written at the same time."""
MIN_BASE64_CHARACTERS = 80
"""A shorter text is a path; no image is that small."""
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
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
_BUFFER_BYTES = 1 << 20
"""Bytes that are read from the storage at a time."""
Invalid = Literal["replace", "keep"]
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What separates the values of a CSV file, with their names."""
_SPACE = re.compile(r"[ \t\n\r]*")

T = TypeVar("T")


def read_rows(
    source: str | Path, columns: Sequence[str] = (), *, invalid: Invalid = "replace"
) -> Iterator[tuple[int, Any]]:
    """Rows of a file with their numbers, not validated. They are read one after the other.

    Args:
        source: path or URI of the file.
        columns: columns of a Parquet file to read, as far as it has them; empty reads all.
        invalid: what becomes of bytes of a text file that are not valid in its encoding: "replace" makes replacement
            characters of them, "keep" lone surrogates, by which the caller recognizes the row.

    Yields:
        Number and value of each row. Numbers start at 1; in a file of JSON lines they are those of the lines.

    Raises:
        UserError: the file is in no supported format.
        StorageError: the file cannot be read.
    """
    with _opened(source) as file:
        start = file.read(8)
        found = next((name for magic, name in _OTHER_FORMATS.items() if start.startswith(magic)), None)
        if found:
            raise UserError(f"{_shown(source)} is {found}; expected {EXPECTED}")
        file.seek(0)
        if start.startswith(parquet_rows.MAGIC):
            yield from parquet_rows.all_rows(file, _shown(source), columns)
        else:
            # the lines end at \r\n, \n or \r; splitlines() would also split at U+2028 inside a text
            with _as_text(file, _shown(source), newline=None, invalid=invalid) as text:
                yield from _lines(text, _shown(source))


def mapped_rows(
    source: str,
    columns: Sequence[str],
    work: Callable[[int, Any], T],
    *,
    invalid: Invalid = "replace",
    rows: Collection[int] | None = None,
) -> Iterator[T]:
    """What a function makes of the rows of a file, in their order; see `read_rows`.

    The row groups of a Parquet file are read at the same time, and only those with one of the rows.

    Args:
        source: path or URI of the file.
        columns: columns of a Parquet file to read, as far as it has them.
        work: gets the number of a row and the row; see `vlrm_ray.store.parquet_rows.mapped_rows`.
        invalid: what becomes of invalid bytes.
        rows: numbers of the rows to read; None for all.
    """
    with _opened(source) as file:
        is_parquet = file.read(len(parquet_rows.MAGIC)) == parquet_rows.MAGIC
    if is_parquet:
        yield from parquet_rows.mapped_rows(source, columns, work, rows)
        return
    last = None if rows is None else max(rows, default=0)
    for number, row in read_rows(source, columns, invalid=invalid):
        if rows is None or number in rows:
            yield work(number, row)
        if number == last:
            return


def read_csv_rows(source: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file whose first line names the columns, with their numbers from 1. All values are texts.

    The values are separated by commas, semicolons or tabs, whichever the first line has most of. The file may be compressed and in
    UTF-16, as other text files.

    Raises:
        UserError: the file has no header, or a row has more values than the header has columns.
        StorageError: the file cannot be read.
    """
    with _opened(source) as file, _as_text(file, _shown(source), newline="") as text:
        first = text.readline()
        reader = csv.DictReader(chain([first], text), delimiter=max(_SEPARATORS, key=first.count))
        try:
            if not reader.fieldnames:
                raise UserError(f"{_shown(source)} is empty; expected CSV whose first line names the columns")
            for number, row in enumerate(reader, 1):
                if None in row or None in row.values():
                    raise UserError(
                        f"{_shown(source)} row {number}: expected {len(reader.fieldnames)} values, one for each column of the "
                        f"first line; correct the row, and quote values that contain {_SEPARATORS[reader.reader.dialect.delimiter]}"
                    )
                yield number, row
        except csv.Error as error:
            raise UserError(
                f"{_shown(source)} is not readable as CSV: {error}; save it again as CSV in UTF-8"
            ) from None


def _shown(source: str | Path) -> str:
    return redacted(str(source))


@contextmanager
def _opened(source: str | Path) -> Iterator[pa.NativeFile]:
    filesystem, path = open_filesystem(str(source))
    with storage_errors("read", str(source)):
        file = filesystem.open_input_file(path)
    with file:
        yield file


@contextmanager
def _as_text(
    file: pa.NativeFile, name: str, *, newline: str | None, invalid: Invalid = "replace"
) -> Iterator[io.TextIOWrapper]:
    """The text of a file, which may be compressed; raises UserError if it is damaged."""
    start = file.read(8)
    file.seek(0)
    codec = next((codec for magic, codec in _COMPRESSED.items() if start.startswith(magic)), None)
    content = io.BufferedReader(pa.CompressedInputStream(file, codec) if codec else file, _BUFFER_BYTES)
    try:
        head = content.peek(4)
        encoding = next((name for mark, name in _ENCODINGS.items() if head.startswith(mark)), "utf-8")
        errors = "surrogateescape" if invalid == "keep" and encoding.startswith("utf-8") else "replace"
        yield io.TextIOWrapper(content, encoding, errors=errors, newline=newline)
    except (OSError, pa.ArrowException) as error:
        if codec and not may_pass(error, name):
            raise UserError(f"{name} is a damaged {codec} file: {first_line(error)}; copy it again") from None
        with storage_errors("read", name):
            raise


def _lines(text: TextIO, name: str) -> Iterator[tuple[int, Any]]:
    first = True
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        if first and line.lstrip().startswith("["):
            yield from _json_list(line + text.read(), name)
            return
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if first and line.lstrip().startswith("{") and (whole := _one_object(line + text.read())) is not None:
                yield 1, whole
                return
            raise UserError(
                f"{name} row {number}: expected one JSON object per line, but line {number} is not JSON "
                f"({first_line(error)}), got {line.strip()[:60]!r}; correct or remove the line, or give {EXPECTED}"
            ) from None
        first = False
        yield number, value


def _one_object(text: str) -> dict[str, Any] | None:
    """The object of a file that holds only one, on several lines."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json_list(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON list, decoded one after the other."""
    decode, number = json.JSONDecoder().raw_decode, 0
    try:
        place = _after_space(text, text.index("[") + 1)
        while text[place : place + 1] != "]" or number:
            value, place = decode(text, place)
            number += 1
            yield number, value
            place = _after_space(text, place)
            if text[place : place + 1] == "]":
                break
            if text[place : place + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            place = _after_space(text, place + 1)
        if _after_space(text, place + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, place + 1)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: expected a JSON list of rows, got {first_line(error)}") from None


def _after_space(text: str, place: int) -> int:
    """The first place from `place` on that is not white space of JSON."""
    match = _SPACE.match(text, place)
    return match.end() if match else place


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
    if ledger.missing([name]):
        ledger.put(name, data)
    return ledger.location(name)


class ImageWriter:
    """Context manager that writes images to a ledger, each once: many at a time, because each waits for the storage.

    It may be used from several threads.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Write to a ledger."""
        self._ledger, self._pool = ledger, ThreadPoolExecutor(_WRITERS)
        self._room = threading.BoundedSemaphore(2 * _WRITERS)  # so that few images are in memory
        self._begun, self._lock = set[str](), threading.Lock()
        self._error: BaseException | None = None

    def put(self, sha256: str, content: bytes) -> None:
        """Write an image, unless it has been begun; raises the error of an earlier one."""
        with self._lock:
            if sha256 in self._begun:
                return
            self._begun.add(sha256)
        self._room.acquire()
        if self._error:
            raise self._error
        self._pool.submit(self._ledger.put, image_file(sha256), content).add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        self._room.release()
        self._error = self._error or future.exception()

    def __enter__(self) -> "ImageWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if self._error and kind is None:
            raise self._error
