"""A folder of any storage: its files are written as a whole, and read, listed and deleted with patience."""

import io
import json
import os
import posixpath
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

import pyarrow.fs as pafs

from vlrm_ray.errors import StorageError
from vlrm_ray.store.filesystem import (
    absolute,
    check_remote,
    joined,
    open_filesystem,
    redacted,
    storage_errors,
    write_atomically,
)
from vlrm_ray.store.patience import patiently

SMALL_BYTES = 1 << 20
"""Largest file that a storage takes at once, so that silence means a dead connection; larger ones may take it minutes."""
ASKERS, ASKED_AT_ONCE = 32, 100
"""Threads that ask an object store which files it has, and the files that each asks about before it takes more."""

T = TypeVar("T")


class Folder:
    """Reads and writes the files of a folder.

    Pickling keeps only the URI. A folder that another process has sent is not used where it does not exist on a local
    file system: that is another node, which does not see it.

    Attributes:
        uri: the folder, as a URI or an absolute local path.
        fs: its file system, for writing.
        quick: the same for requests that a working storage answers soon: reads, lists and small writes.
        root: its path on `fs`.
        local: whether the file system is the local one.
    """

    def __init__(self, uri: str) -> None:
        """Open a folder, given by a pyarrow.fs URI or a local path; it need not exist yet."""
        self.uri, self._sent = absolute(uri), False
        check_remote(self.uri)
        self._connect()

    def _connect(self) -> None:
        self.fs, self.root = open_filesystem(self.uri, writes=True)
        self.quick = open_filesystem(self.uri)[0] if self.fs.type_name in ("s3", "gcs") else self.fs
        self.local = isinstance(self.fs, pafs.LocalFileSystem)

    def __getstate__(self) -> dict[str, str]:
        if self.local and not self._sent:
            with suppress(OSError):
                os.makedirs(self.root, exist_ok=True)  # by which the receiver sees whether it has the same folder
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.uri, self._sent = state["uri"], True
        self._connect()

    def path(self, *names: str) -> str:
        """Path of a file or folder of the run, for use with `fs`."""
        return posixpath.join(self.root, *names)

    def location(self, *names: str) -> str:
        """URI of a file or folder of the run, or its path if the storage is local."""
        return self.path(*names) if self.local else joined(self.uri, *names)

    def _errors(self, action: str, *names: str) -> AbstractContextManager[None]:
        if self.local and self._sent and not os.path.isdir(self.root):
            raise StorageError(
                f"there is no folder {self.root} on node {socket.gethostname()}, so it does not see the run; set folder= to "
                "s3://..., gs://... or a folder that all nodes mount under the same path"
            )
        return storage_errors(action, self.location(*names))

    def _patiently(self, action: str, name: str, work: Callable[[], T]) -> T:
        """Result of some work on a file, done again while the storage is overloaded; errors name the action and the file."""

        def attempt() -> T:
            with self._errors(action, name):
                return work()

        return patiently(attempt, self.location(name))

    def put(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        filesystem = self.quick if len(data) <= SMALL_BYTES else self.fs
        self._patiently("write", name, lambda: write_atomically(filesystem, self.path(name), io.BytesIO(data)))

    def check_writable(self) -> None:
        """Write and delete a small file."""
        name = f"check-{uuid.uuid4().hex}"
        self.put(name, b"")
        self.delete(name)

    def get(self, name: str) -> bytes | None:
        """Content of a file; None if it does not exist."""

        def read() -> bytes | None:
            with suppress(FileNotFoundError), self.quick.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
            return None

        return self._patiently("read", name, read)

    def missing(self, names: Iterable[str]) -> set[str]:
        """Those of some files that do not exist. Object stores, which answer about one at a time, are asked by many threads."""
        ordered = list(names)
        size = len(ordered) or 1 if self.local else ASKED_AT_ONCE
        groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        if len(groups) <= 1:
            return set().union(*map(self._missing, groups))
        with ThreadPoolExecutor(ASKERS) as askers:
            return set().union(*askers.map(self._missing, groups))

    def _missing(self, names: list[str]) -> set[str]:
        paths = [self.path(name) for name in names]
        found = self._patiently("read", names[0], lambda: self.quick.get_file_info(paths))
        return {name for name, info in zip(names, found, strict=True) if info.type == pafs.FileType.NotFound}

    def put_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically."""
        self.put(name, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")

    def get_json(self, name: str) -> Any | None:
        """Read a JSON file; None if it does not exist.

        Raises:
            StorageError: the file is not JSON.
        """
        data = self.get(name)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            raise StorageError(
                f"{redacted(self.location(name))} is damaged: it is not JSON; delete it, then run the same command again"
            ) from None

    def names(self, folder: str, prefix: str, suffix: str) -> list[str]:
        """Sorted names of the files and folders in a folder that begin and end so."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        infos = self._patiently("list", folder, lambda: self.quick.get_file_info(selector))
        return sorted(i.base_name for i in infos if i.base_name.startswith(prefix) and i.base_name.endswith(suffix))

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self.quick.delete_file(self.path(name))

        self._patiently("delete", name, delete)

    def remove(self, name: str) -> None:
        """Delete a folder of working files, if it exists."""
        if self.local:
            shutil.rmtree(self.path(name), ignore_errors=True)
            return

        def remove() -> None:
            if self.fs.get_file_info(self.path(name)).type == pafs.FileType.Directory:
                self.fs.delete_dir(self.path(name))

        self._patiently("delete", name, remove)
