"""Folders and files of any storage by URI: what they hold, without reading it."""

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs

from vlrm_ray.errors import StorageError
from vlrm_ray.store.filesystem import open_filesystem, redacted, storage_errors
from vlrm_ray.store.patience import patiently


@dataclass(frozen=True)
class Source:
    """A folder or file of a storage, with its files.

    Attributes:
        uri: its URI.
        filesystem: its file system.
        root: its path on the file system.
        files: the files by name, relative to the folder; a single file has the name "".
    """

    uri: str
    filesystem: pafs.FileSystem
    root: str
    files: Mapping[str, pafs.FileInfo]

    def path(self, name: str) -> str:
        """Path of one of the files on the file system."""
        return posixpath.join(self.root, name).rstrip("/")

    def open(self, name: str) -> pa.NativeFile:
        """Open one of the files for reading at any position."""
        return self.filesystem.open_input_file(self.path(name))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return posixpath.basename(self.root.rstrip("/"))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(info.size or 0 for info in self.files.values())

    @property
    def state(self) -> list[tuple[str, int, int]]:
        """Names, sizes and times, which change with the content."""
        return [(name, info.size or 0, info.mtime_ns or 0) for name, info in sorted(self.files.items())]


def list_source(uri: str, names: Collection[str] = ()) -> Source:
    """The files of a folder or file of a storage.

    Raises:
        StorageError: there is no such folder or file, or one of `names` is not in the folder.
    """
    filesystem, root = open_filesystem(uri)

    def listed() -> tuple[pafs.FileInfo, list[pafs.FileInfo]]:
        with storage_errors("read", uri):
            info = filesystem.get_file_info(root)
            selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
            return info, [] if info.type == pafs.FileType.File else filesystem.get_file_info(selector)

    info, found = patiently(listed, uri)
    if info.type == pafs.FileType.File:
        return Source(uri, filesystem, root, {"": info})
    files = {i.path[len(root) :].strip("/"): i for i in found if i.type == pafs.FileType.File}
    if unsafe := next((name for name in files if ".." in name.split("/")), None):
        raise StorageError(f"cannot read {redacted(uri)}: {unsafe} is not a name that a folder can hold; rename it")
    missing = sorted(set(names) - files.keys())
    if missing or info.type == pafs.FileType.NotFound:
        what = f"{missing[0]} is missing in it" if files else "there is no such folder or file"
        raise StorageError(f"cannot read {redacted(uri)}: {what}; correct the URI, or upload it again")
    return Source(uri, filesystem, root, {name: files[name] for name in names} if names else files)
