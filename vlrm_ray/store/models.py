"""Models by reference: what crosses process boundaries is how a model is named, never where a process keeps it.

    version:3                     version 3 of the run's ledger
    assets:vlm                    a model shipped with the package, as it is installed on this node
    s3://bucket/models/qwen       folder or file of an object store, fetched into the cache of this node
    /models/qwen                  local path; the node that uses it must have it
    Qwen/Qwen2.5-VL-7B-Instruct   name on the Hugging Face hub, resolved by its own libraries

Fingerprints are computed from content, so they are the same on each node.
"""

import os
import re
import socket
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from vlrm_ray.config import ASSETS, asset_path
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.ids import digest, sha256_of_file
from vlrm_ray.store.filesystem import file_uri_path, is_remote, storage_errors
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.node_cache import node_cache
from vlrm_ray.store.patience import impatient
from vlrm_ray.store.sources import Source, list_source

VERSION = "version:"
"""Prefix of a reference to a published version of the run; its number follows."""
SMALL_BYTES = 64 << 20
"""Files up to this size are complete in a skeleton; of larger ones it has the beginning, or the header of weights."""
OFFLINE_ENV = {"VLRM_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
"""Environment of a run's processes with `offline: true`."""
_READERS = 8
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LOCAL = ("/", ".", "~")
"""Beginnings of a local path; other names are local if there is such a file or folder."""


def is_offline() -> bool:
    """Whether this process must not download models."""
    return bool(os.environ.get("VLRM_OFFLINE"))


def portable(reference: str) -> str:
    """The same reference for use by other processes: a relative local path becomes absolute."""
    path = _local_path(reference)
    return reference if path is None else str(path)


def is_hub_name(name: str) -> bool:
    """Whether a model's name, if it is not empty, is one on the Hugging Face hub: no URI, and no path of this node."""
    beginnings = (ASSETS, ".", "/", "~")
    return bool(name) and not (is_remote(name) or name.startswith(beginnings) or Path(portable(name)).exists())


def may_be_hub_name(name: str) -> bool:
    """Whether `is_hub_name` holds and the name has the form OWNER/NAME."""
    return is_hub_name(name) and bool(_HUB_NAME.fullmatch(name))


def check_hub_name(key: str, name: str) -> None:
    """Check that a model's name, if it is no URI and no path of this node, may be one of the hub; raises UserError."""
    if is_hub_name(name) and not may_be_hub_name(name):
        raise UserError(f"{key}: there is no folder {name}, and a name of the hub is OWNER/NAME; give either")


def local_model(reference: str, ledger: Ledger | None = None) -> str:
    """The path of a model on this node, fetched if needed; the name of a model on the hub is returned unchanged.

    Args:
        reference: see the module.
        ledger: ledger of the run, for its versions.

    Raises:
        UserError: there is no such model, or it cannot be fetched.
    """
    if reference.startswith(VERSION) and ledger is not None:
        return ledger.fetch_version(int(reference.removeprefix(VERSION)))
    if is_remote(reference):
        return node_cache().fetch(reference).path
    path = _local_path(reference)
    if path is None:
        return asset_path(reference)
    if not path.exists():
        raise StorageError(
            f"there is no {path} on node {socket.gethostname()}; give a path that every node has, an s3:// or gs:// URI, "
            "or a name on the Hugging Face hub"
        )
    return str(path)


@contextmanager
def skeleton(uri: str, names: Collection[str] = ()) -> Iterator[Path]:
    """Context manager: a temporary folder with the files of a remote model, to check them without fetching the weights.

    Small files are complete. Weights in safetensors have their full size and their header, and no tensors.

    Args:
        uri: URI of the model's folder.
        names: names of the files, of which the folder may lack some; all files without them.

    Raises:
        StorageError: the folder does not exist or cannot be read.
    """
    with impatient():
        source = list_source(uri)
    with tempfile.TemporaryDirectory(prefix="vlrm-model-") as folder:
        with storage_errors("read", uri), ThreadPoolExecutor(_READERS) as readers:
            wanted = [name for name in source.files if not names or name in names]
            list(readers.map(lambda name: _copy_start(source, name, Path(folder, name or source.name)), wanted))
        yield Path(folder)


def _copy_start(source: Source, name: str, target: Path) -> None:
    size = source.files[name].size or 0
    with source.open(name) as file:
        length = min(size, SMALL_BYTES)
        if name.endswith(".safetensors"):
            length = min(length, 8 + int.from_bytes(file.read_at(8, 0), "little"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_at(length, 0))
    os.truncate(target, size)


def model_fingerprint(reference: str, ledger: Ledger | None = None) -> str:
    """Hash of a model's content: of a folder the hash of names and contents, of a file its sha256.

    The name of a model on the hub is its own fingerprint. Arguments and errors are those of `local_model`.
    """
    if is_remote(reference):
        return _combined(dict(node_cache().fetch(reference).hashes))
    path = Path(local_model(reference, ledger))
    if not path.exists():
        return reference
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    state = tuple((str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in files)
    return _local_fingerprint(str(path), state)


@lru_cache(maxsize=32)
def _local_fingerprint(path: str, state: tuple[tuple[str, int, int], ...]) -> str:
    """Fingerprint of local files; `state` has each file's path, size and time."""
    return _combined(
        {"" if file == path else os.path.relpath(file, path): sha256_of_file(file) for file, _, _ in state}
    )


def _combined(hashes: dict[str, str]) -> str:
    """One hash of files by name, as `vlrm_ray.ids.fingerprint` computes it; the sha256 of a single file."""
    return hashes[""] if "" in hashes else digest(sorted(hashes.items(), key=lambda item: item[0].split("/")))


def _local_path(reference: str) -> Path | None:
    """Absolute path of a reference to a local file or folder; None for any other reference."""
    if reference[:6].lower() == "file:/":
        return Path(os.path.abspath(file_uri_path(reference)))
    if not reference or reference.startswith((VERSION, ASSETS)) or is_remote(reference):
        return None
    path = Path(os.path.abspath(Path(reference).expanduser()))
    return path if reference.startswith(_LOCAL) or path.exists() else None
