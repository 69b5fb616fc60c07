"""The cache of a node: folders and files of an object store, fetched once and shared by all processes of the node.

    $VLRM_CACHE/folders/<key>/<name>...     a fetched folder or file, under its own name
    $VLRM_CACHE/folders/<key>/entry.json    its source, and size, time and sha256 of each file; written last
    $VLRM_CACHE/folders/<key>.partial/      a download in progress
    $VLRM_CACHE/folders/<key>.lock          held by the process that downloads
    $VLRM_CACHE/folders/<key>.use           held by the processes that use the entry
    $VLRM_CACHE/files/<aa>/<key>            content of a small file, such as an image

The key is a hash of the source and of its state: the sha256 of its files where they are known, else their sizes and
times. A source that has changed is fetched again. An entry becomes visible at once, by a rename. Locks are those of the
operating system (flock), so they end with their process.

The cache is limited to `VLRM_CACHE_GB`. Room is made by deleting what was used least recently and is in use by no
process. Only files of object stores are cached: what a node can read by a path is read there.
"""

import fcntl
import json
import os
import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vlrm_ray.errors import StorageError
from vlrm_ray.ids import digest, sha256_of_file
from vlrm_ray.store.filesystem import copy_hashed, redacted, storage_errors
from vlrm_ray.store.patience import patiently
from vlrm_ray.store.sources import Source, list_source

FOLDER_VARIABLE, SIZE_VARIABLE = "VLRM_CACHE", "VLRM_CACHE_GB"
"""Environment variables with the cache's folder, and its limit in GB (10^9 bytes)."""
DEFAULT_SHARE = 0.5
"""Limit without `VLRM_CACHE_GB`, as a share of the disk space that is free or used by the cache."""
DOWNLOADS = 8
"""Files of a folder that are downloaded at the same time."""
ATTEMPTS = 2
"""How often a folder is downloaded whose files change meanwhile."""
WAIT_SECONDS = 3600
"""How long a process waits for another one that downloads the same source."""
_POLL_SECONDS = 0.1
_CHECK_SHARE = 0.01
"""Files of `files/` are counted again each time that this share of the limit has been added, on average over all processes."""


@dataclass(frozen=True)
class Fetched:
    """A folder or file in the cache.

    Attributes:
        path: local path.
        hashes: sha256 of each file by its name in the folder; a single file has the name "".
    """

    path: str
    hashes: Mapping[str, str]


class NodeCache:
    """A cache in one folder; see the module. All methods are safe for use by several threads and processes."""

    def __init__(self, folder: str, limit: int = 0) -> None:
        """Open the cache.

        Args:
            folder: local folder; created when something is fetched.
            limit: largest size in bytes; 0 takes `DEFAULT_SHARE`.
        """
        self.folder, self.fixed_limit = folder, limit
        self._pins: dict[str, int] = {}
        self._mutex = threading.Lock()

    def limit(self, used: int) -> int:
        """Largest size in bytes, given the present one."""
        return self.fixed_limit or int(DEFAULT_SHARE * (used + shutil.disk_usage(self.folder).free))

    def fetch(self, uri: str, hashes: Mapping[str, str] | None = None, slot: str = "") -> Fetched:
        """Local copy of a folder or file, downloaded if it is not there yet.

        The copy is not deleted as long as this process runs, or until it has fetched another one for the same slot.

        Args:
            uri: URI of the folder or file.
            hashes: sha256 of the files by name, if they are known; only these files are fetched, and verified.
            slot: what the copy is used for; by default the URI itself.

        Raises:
            StorageError: the source does not exist, differs from `hashes` or cannot be read, or the cache is too small.
        """
        source = list_source(uri) if hashes is None else None
        key = digest("folder", _without_user(uri), source.state if source else hashes)
        with storage_errors("prepare", self.folder):
            os.makedirs(self._path(), exist_ok=True)
        pin = self._pin(key)
        try:
            entry = self._read(key)
            if entry is None:
                source = source or list_source(uri, hashes or ())
                with self._locked(f"{key}.lock", uri):
                    entry = self._read(key) or self._download(key, source, hashes)
        except BaseException:
            os.close(pin)
            raise
        self._keep(slot or uri, pin)
        with suppress(OSError):
            os.utime(self._path(key, "entry.json"))
        return Fetched(self._path(key, entry["name"]), {name: file["sha256"] for name, file in entry["files"].items()})

    def read(self, uri: str, read: Callable[[], bytes], size: int, time_ns: int) -> bytes:
        """Content of a small file, from the cache or from `read`, which is then called once.

        Args:
            uri: URI of the file.
            read: reads the file from its storage.
            size: its size in bytes.
            time_ns: when it was written, in nanoseconds; tells its content from an earlier one of the same size.
        """
        key = digest("file", _without_user(uri), size, time_ns)
        path = os.path.join(self.folder, "files", key[:2], key)
        with suppress(OSError):
            with open(path, "rb") as file:
                data = file.read()
            if len(data) == size:  # else the node has crashed before it was on the disk
                os.utime(path)
                return data
        data = read()
        with suppress(OSError):  # a full disk or a folder that cannot be written: the file is read again the next time
            self._store(path, data)
        return data

    def _store(self, path: str, data: bytes) -> None:
        partial = f"{path}.{uuid.uuid4().hex}.tmp"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(partial, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        except OSError:
            with suppress(OSError):
                os.unlink(partial)
            raise
        if random.random() < len(data) / max(1, _CHECK_SHARE * self.limit(0)):
            self._make_room("", 0, path)

    # --- entries --------------------------------------------------------------------------------

    def _path(self, *names: str) -> str:
        return os.path.join(self.folder, "folders", *names)

    def _pin(self, key: str) -> int:
        """Mark an entry as in use, until the returned file descriptor is closed."""
        with storage_errors("lock", self._path(f"{key}.use")):
            descriptor = os.open(self._path(f"{key}.use"), os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def _keep(self, slot: str, pin: int) -> None:
        """Keep a pin for the rest of the process, in place of the one that had the slot."""
        with self._mutex:
            old = self._pins.get(slot)
            self._pins[slot] = pin
        if old is not None:
            os.close(old)

    def _read(self, key: str) -> dict[str, Any] | None:
        """The description of a complete entry. A file whose size or time has changed is compared by its sha256."""
        try:
            entry: dict[str, Any] = json.loads(Path(self._path(key, "entry.json")).read_bytes())
            for name, file in entry["files"].items():
                path = self._path(key, entry["name"], *filter(None, name.split("/")))
                status = os.stat(path)
                same = (status.st_size, status.st_mtime_ns) == (file["bytes"], file["mtime_ns"])
                if not same and sha256_of_file(path) != file["sha256"]:
                    return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry

    def _download(self, key: str, source: Source, hashes: Mapping[str, str] | None) -> dict[str, Any]:
        """Download a source; the caller holds its lock."""
        partial = self._path(f"{key}.partial")
        with storage_errors("fetch", source.uri):
            shutil.rmtree(partial, ignore_errors=True)
            self._make_room(key, source.size, source.uri)
        try:
            with storage_errors("fetch", source.uri):
                files = self._copy(source, os.path.join(partial, source.name), hashes)
            entry = {
                "source": redacted(source.uri),
                "name": source.name,
                "bytes": sum(file["bytes"] for file in files.values()),
                "files": files,
            }
            with storage_errors("write", self._path(key)):
                Path(partial, "entry.json").write_text(json.dumps(entry, indent=1))
                self._discard(self._path(key))
                os.rename(partial, self._path(key))
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return entry

    def _copy(self, source: Source, target: str, hashes: Mapping[str, str] | None) -> dict[str, dict[str, Any]]:
        """Copy the files of a source; returns their descriptions by name."""

        def copy(name: str) -> dict[str, Any]:
            path = os.path.join(target, *name.split("/")) if name else target
            os.makedirs(os.path.dirname(path), exist_ok=True)
            expected = hashes[name] if hashes else ""

            def download() -> str:
                with source.open(name) as remote, open(path, "wb") as local:
                    return copy_hashed(remote, local)

            for _ in range(ATTEMPTS):
                sha256 = patiently(download, source.uri)
                size = os.path.getsize(path)
                if sha256 == expected or (not expected and size == source.files[name].size):
                    return {"bytes": size, "mtime_ns": os.stat(path).st_mtime_ns, "sha256": sha256}
            wanted = f"the sha256 {expected[:16]}..." if expected else f"{source.files[name].size} bytes"
            raise StorageError(
                f"cannot fetch {redacted(source.uri)}: {name or source.name} is damaged or changes while it is read "
                f"({size} bytes, sha256 {sha256[:16]}..., expected {wanted}); upload it again"
            )

        contexts = [copy_context() for _ in source.files]  # each has the patience of the caller
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            copied = pool.map(lambda context, name: context.run(copy, name), contexts, source.files)
            return dict(zip(source.files, copied, strict=True))

    @contextmanager
    def _locked(self, name: str, uri: str) -> Iterator[None]:
        """Hold a lock that one process or thread can hold at a time."""
        path, deadline = self._path(name), time.monotonic() + WAIT_SECONDS
        with storage_errors("lock", path):
            file = open(path, "a+")  # noqa: SIM115
        with file:
            while not _try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"cannot fetch {redacted(uri)}: another process of this node has held {path} for {WAIT_SECONDS} "
                        "s; end it, then run the same command again"
                    )
                time.sleep(_POLL_SECONDS)
            yield

    # --- room -----------------------------------------------------------------------------------

    def _make_room(self, key: str, size: int, uri: str) -> None:
        """Delete what was used least recently until `size` bytes more fit; reserve them for the download of `key`.

        Raises:
            StorageError: they do not fit, because the other entries are in use or the limit is too small.
        """
        os.makedirs(self._path(), exist_ok=True)
        with self._locked("room.lock", uri):
            candidates = sorted(self._candidates())
            used = sum(item[1] for item in candidates)
            limit = self.limit(used)
            for _, bytes_, path in candidates:
                if used + size <= limit:
                    break
                if self._evict(path):
                    used -= bytes_
            if size and used + size > limit:
                raise StorageError(
                    f"cannot fetch {redacted(uri)}: it has {size / 1e9:.1f} GB, and the node cache {self.folder} has room "
                    f"for {max(0, limit - used) / 1e9:.1f} GB beside {used / 1e9:.1f} GB that running processes use; set "
                    f"{SIZE_VARIABLE} above {(used + size) / 1e9:.1f}, or {FOLDER_VARIABLE} to a folder on a larger disk"
                )
            if key:
                os.makedirs(self._path(f"{key}.partial"))
                Path(self._path(f"{key}.partial"), "reserved").write_text(str(size))

    def _candidates(self) -> Iterator[tuple[float, int, str]]:
        """Everything in the cache: time of the last use, bytes, and path."""
        with os.scandir(self._path()) as entries:
            for entry in entries:
                if entry.name.endswith(".trash"):  # of a process that was killed
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif entry.is_dir():
                    with suppress(OSError, ValueError, KeyError):
                        yield self._age_and_size(entry)
        for folder, _, names in os.walk(os.path.join(self.folder, "files")):
            for name in names:
                with suppress(OSError):
                    status = os.stat(os.path.join(folder, name))
                    yield status.st_mtime, status.st_size, os.path.join(folder, name)

    def _age_and_size(self, entry: "os.DirEntry[str]") -> tuple[float, int, str]:
        if entry.name.endswith(".partial"):
            reserved = Path(entry.path, "reserved")
            return 0.0, int(reserved.read_text()), entry.path
        description = Path(entry.path, "entry.json")
        if not description.exists():
            return 0.0, 0, entry.path
        return description.stat().st_mtime, int(json.loads(description.read_bytes())["bytes"]), entry.path

    def _evict(self, path: str) -> bool:
        """Delete an entry or a file, unless a process uses or downloads it; returns whether it was deleted."""
        if os.path.isfile(path):
            with suppress(OSError):
                os.unlink(path)
            return True
        key = os.path.basename(path).partition(".")[0]
        with (
            suppress(OSError),
            open(self._path(f"{key}.lock"), "a+") as lock,
            open(self._path(f"{key}.use"), "a+") as use,
        ):
            download = path.endswith(".partial")
            if _try_lock(lock.fileno()) and (download or _try_lock(use.fileno())):
                self._discard(path)
                return True
        return False

    def _discard(self, path: str) -> None:
        """Delete a folder: it disappears at once, and is then emptied."""
        trash = f"{path.partition('.')[0]}.{uuid.uuid4().hex}.trash"
        with suppress(FileNotFoundError):
            os.rename(path, trash)
            shutil.rmtree(trash, ignore_errors=True)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _without_user(uri: str) -> str:
    """A URI without credentials, which do not determine the content."""
    scheme, mark, rest = uri.partition("://")
    return scheme + mark + rest.rpartition("@")[2] if mark else uri


@cache
def _open(folder: str, limit: int) -> NodeCache:
    return NodeCache(folder, limit)


def node_cache() -> NodeCache:
    """The cache of this node, as the environment configures it.

    Its folder is `VLRM_CACHE`, by default `vlrm-ray` in `XDG_CACHE_HOME` or `~/.cache`; its limit is `VLRM_CACHE_GB`.

    Raises:
        StorageError: `VLRM_CACHE_GB` is not a positive number.
    """
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vlrm-ray")
    size = os.environ.get(SIZE_VARIABLE, "").strip()
    try:
        limit = int(float(size) * 1e9) if size else 0
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0 or (size and limit == 0):
        raise StorageError(f"{SIZE_VARIABLE}={size!r} is not a number of GB; set it to one above 0, such as 100")
    return _open(os.path.abspath(os.environ.get(FOLDER_VARIABLE) or default), limit)
