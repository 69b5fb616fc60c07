"""Reads files out of archives: npm's .tgz, wheels, Debian's .deb, and Qt's .rcc resource files inside them.

Nothing is unpacked to disk and nothing in an archive is run. A member whose name is absolute or leads out of the archive
is refused, and so is one that is larger than `MAX_BYTES`.
"""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from vlrm_ray.errors import UserError

MAX_BYTES = 1 << 28
"""Largest member that is read."""
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60
_RCC_MAGIC, _RCC_FOLDER, _RCC_ZLIB, _RCC_ZSTD = b"qres", 2, 1, 4

Wanted = Callable[[str], bool]


def members(archive: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of an archive whose name is wanted, in the archive's order.

    Raises:
        UserError: the archive is damaged, or a member's name leads out of it.
    """
    readers = {".tgz": _tar, ".gz": _tar, ".whl": _zip, ".zip": _zip, ".deb": _deb}
    try:
        yield from readers[archive.suffix](archive, lambda name: wanted(_inside(archive, name)))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, struct.error, ValueError) as error:
        raise UserError(f"{archive} is damaged ({error}); delete it and run the command again") from error


def _inside(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise UserError(f"{archive} is refused: its member {name!r} leads out of the archive; delete the file")
    return str(path)


def _tar(archive: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with open(archive, "rb") as file:
        yield from _tar_members(file, wanted)


def _tar_members(file: io.BufferedIOBase, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        for member in tar:
            if wanted(member.name) and member.isreg():
                _limit(member.name, member.size)
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                yield str(PurePosixPath(member.name)), content.read()


def _zip(archive: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if wanted(info.filename) and not info.is_dir():
                _limit(info.filename, info.file_size)
                yield str(PurePosixPath(info.filename)), file.read(info)


def _deb(archive: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """The files of a Debian package: an `ar` archive whose member data.tar.* holds them."""
    with open(archive, "rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise ValueError("no Debian package")
        while header := file.read(_AR_HEADER):
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                yield from _tar_members(file, wanted)
                return
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it has no data.tar")


def resources(content: bytes, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files in a Qt resource file (.rcc), versions 1 to 3, stored or zlib-compressed.

    Raises:
        UserError: it is not such a file, or a wanted file is compressed otherwise.
    """
    if content[:4] != _RCC_MAGIC:
        raise UserError("a resource file of gcompris-qt-data is damaged; delete the package from archives/")
    version, tree, data, names = struct.unpack(">4I", content[4:20])
    step = 14 if version == 1 else 22
    folders: list[tuple[int, str]] = [(0, "")]
    while folders:
        node, prefix = folders.pop()
        count, first = struct.unpack_from(">II", content, tree + node * step + 6)
        for child in range(first, first + count):
            offset, flags = struct.unpack_from(">IH", content, tree + child * step)
            (length,) = struct.unpack_from(">H", content, names + offset)
            start = names + offset + 6
            name = prefix + content[start : start + 2 * length].decode("utf-16-be")
            if flags & _RCC_FOLDER:
                folders.append((child, f"{name}/"))
            elif wanted(name):
                (where,) = struct.unpack_from(">I", content, tree + child * step + 10)
                yield name, _resource(content, data + where, flags, name)


def _resource(content: bytes, start: int, flags: int, name: str) -> bytes:
    (size,) = struct.unpack_from(">I", content, start)
    raw = content[start + 4 : start + 4 + size]
    if flags & _RCC_ZSTD:
        raise UserError(f"{name} is compressed with Zstandard, which is not supported; use the pinned gcompris-qt-data")
    return zlib.decompress(raw[4:]) if flags & _RCC_ZLIB else raw


def _limit(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"{name} has {size} bytes, at most {MAX_BYTES} are read")
