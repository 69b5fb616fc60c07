"""Reads PyTorch's distributed checkpoints from any storage, without executing anything that is in them.

PyTorch stores the description of a checkpoint, `.metadata`, as a pickle, and a pickle can call any function while it is
loaded. Here it can name only the classes that describe tensors. The tensors themselves are read by `torch.load` with
`weights_only`; other objects are refused, because PyTorch would unpickle them without limits.
"""

import io
import pickle
import posixpath
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow.fs as pafs
import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    _MEM_FORMAT_ENCODING,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.futures import Future
from torch.serialization import _get_layout

from vlrm_ray.errors import StorageError, UserError

METADATA = ".metadata"
BUFFER = 16 << 20
"""Bytes that are read from storage at a time, so that small tensors do not cost a request each."""
# the private ones are what PyTorch's own writer stores
_CLASSES = (
    _MEM_FORMAT_ENCODING, ChunkStorageMetadata, Metadata, MetadataIndex, StorageMeta, TensorProperties,
    TensorStorageMetadata, _StorageInfo, torch.Size,
)  # fmt: skip
_ALLOWED: dict[tuple[str, str], Any] = {(kind.__module__, kind.__qualname__): kind for kind in _CLASSES}
_ALLOWED[_get_layout.__module__, _get_layout.__qualname__] = _get_layout
for _path in ("PosixPath", "PurePosixPath"):  # where it was written; the path is not used
    _ALLOWED["pathlib", _path] = _ALLOWED["pathlib._local", _path] = PurePosixPath


class _Unpickler(pickle.Unpickler):
    """Unpickler for descriptions of tensors, and for nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class that a pickle names, if it is one of those above or a data type of PyTorch."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_metadata(data: bytes, source: str) -> Metadata:
    """Decode a checkpoint's `.metadata`.

    Args:
        data: content of the file.
        source: its path, for messages.

    Raises:
        UserError: it is not the description of tensors that PyTorch writes.
    """
    try:
        metadata = _Unpickler(io.BytesIO(data)).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError(f"it holds a {type(metadata).__name__}")
        for info in metadata.storage_data.values():
            if not isinstance(info, _StorageInfo) or posixpath.basename(info.relative_path) != info.relative_path:
                raise pickle.UnpicklingError("it refers to files of another folder")
        if not all(isinstance(entry, TensorStorageMetadata) for entry in metadata.state_dict_metadata.values()):
            raise pickle.UnpicklingError("it describes objects that are not tensors")
    except Exception as error:  # a damaged pickle can raise any type
        raise UserError(
            f"{source} is not the description of a checkpoint by this program ({error}); nothing of it was executed. "
            "Delete the checkpoint, and training starts again"
        ) from None
    return metadata


class CheckpointReader(FileSystemReader):
    """Reads from a folder of a pyarrow file system; each rank reads only the tensors of its own plan."""

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        """Refer to a folder; nothing is read yet."""
        super().__init__(path)
        self.filesystem, self.folder = filesystem, path

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The description of the checkpoint; raises UserError if it is more than that."""
        path = posixpath.join(self.folder, METADATA)
        metadata = read_metadata(_read(self.filesystem, path), path)
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The same plan in the order of the files."""
        places = self.storage_data
        order = sorted(
            plan.items, key=lambda i: (places[i.storage_index].relative_path, places[i.storage_index].offset)
        )
        return replace(plan, items=order)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read the tensors of a plan."""
        self.fs = _ArrowFiles(self.filesystem)  # type: ignore[assignment]
        self.path = self.folder  # type: ignore[assignment]
        return super().read_data(plan, planner)

    def _slice_file(self, file: Any, sinfo: _StorageInfo) -> IO[bytes]:
        file.seek(sinfo.offset)
        return io.BytesIO(file.read(sinfo.length))


class _ArrowFiles:
    """The two operations of PyTorch's file systems that reading needs."""

    def __init__(self, filesystem: pafs.FileSystem) -> None:
        self.filesystem = filesystem

    @contextmanager
    def create_stream(self, path: str, mode: str) -> Generator[io.BufferedReader, None, None]:
        """A file to read from."""
        assert mode == "rb"
        with self.filesystem.open_input_file(path) as file:
            yield io.BufferedReader(file, BUFFER)

    def concat_path(self, path: str, suffix: str) -> str:
        """Path of a file in a folder."""
        return posixpath.join(path, suffix)


def _read(filesystem: pafs.FileSystem, path: str) -> bytes:
    try:
        with filesystem.open_input_file(path) as file:
            return bytes(file.read())
    except OSError as error:
        raise StorageError(f"the checkpoint's {path} cannot be read: {error}") from None
