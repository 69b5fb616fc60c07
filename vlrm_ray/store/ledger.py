"""The ledger: all files of a run. Parts, stage results and published versions are committed atomically.

    runs/<name>/config.json                             configuration of the run
    runs/<name>/driver.json                             lease of the driver that runs it; see lease.py
    runs/<name>/round-0001/<table>/part-00000.parquet   a table of a part: the output of a stage, or the complete rows
    runs/<name>/round-0001/parts/part-00000.json        marker of the part: sha256 and rows of its tables, row counts, ...
    runs/<name>/round-0001/<stage>.json                 result of the stage; it exists once the stage is finished
    runs/<name>/versions/0001/...                       files of a published reward model
    runs/<name>/versions/0001.json                      marker of the version: sha256 of each file
    runs/<name>/refused/, suspects/                     requests that end an engine's process; see `actors.suspects`

A part or a version exists once its marker does; the marker is written last. Storage is any `pyarrow.fs` URI. All methods
wait for a storage that is overloaded or cannot be reached (see `vlrm_ray.store.patience`), and raise `StorageError` if it
cannot be read or written.
"""

import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vlrm_ray.errors import UserError, first_line
from vlrm_ray.ids import sha256_of
from vlrm_ray.store.filesystem import (
    redacted,
    write_atomically,
)
from vlrm_ray.store.folder import Folder
from vlrm_ray.store.node_cache import node_cache
from vlrm_ray.store.sources import Source, list_source

ROLLOUT_STAGES = ("generate", "verify", "pair", "critique", "select")
"""Names of the stages of the rollout phase, which run as one streaming execution, in order."""
STAGES = (*ROLLOUT_STAGES, "train", "evaluate", "publish")
"""Names of all stages of a round."""
MARKERS = "parts"
"""Folder of the parts' markers."""
VERSIONS = "versions"
"""Folder of the published versions."""
READERS = 16
"""Parts that are read at the same time."""
COPIES = 4
"""Files of a version that are copied at the same time."""
COPIED_BYTES = 5 << 30
"""Size of the largest object that S3 copies in one request."""
SERVED = "served.json"
"""File in a run's folder that names the version which each critic loads when it starts."""

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class Ledger(Folder):
    """Reads and writes the folder of a run.

    Pickling keeps only the URI, so a ledger is cheap to send to actors. One that another process has sent is not used
    where its local folder does not exist: that is another node, which does not see the run.
    """

    # --- parts and stages -----------------------------------------------------------------------

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """Columns of a Parquet file, of which only these are read; None if there is no such file, or a damaged one."""

        def read() -> pa.Table | None:
            missing = suppress(FileNotFoundError, pa.ArrowInvalid)
            with missing, self.quick.open_input_file(self.path(name)) as file:
                return pq.read_table(file, columns=columns)
            return None

        return self._patiently("read", name, read)

    def put_part(self, round_: int, index: int, tables: Mapping[str, pa.Table], marker: dict[str, Any]) -> None:
        """Commit a part: write its tables, then the marker. The marker of an earlier commit is deleted first.

        Args:
            round_: number of the round.
            index: index of the part.
            tables: its tables, by name.
            marker: entries to add to the marker.
        """
        written = {}
        self.remove_part(round_, index)
        for stage, table in tables.items():
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            self.put(f"{_part(round_, stage, index)}.parquet", sink.getvalue())
            written[stage] = {"sha256": sha256_of(sink.getvalue()), "rows": table.num_rows}
        self.put_json(f"{_part(round_, MARKERS, index)}.json", {"tables": written, **marker})

    def remove_part(self, round_: int, index: int) -> None:
        """Delete the marker of a part, so that the part is made again."""
        self.delete(f"{_part(round_, MARKERS, index)}.json")

    def part_marker(self, round_: int, index: int) -> dict[str, Any] | None:
        """Marker of a part; None if the part is not committed."""
        marker = self.get_json(f"{_part(round_, MARKERS, index)}.json")
        return None if marker is None else dict(marker)

    def part_markers(self, round_: int) -> dict[int, dict[str, Any]]:
        """Markers of all committed parts of a round, by index; many are read at the same time."""
        indices = self.parts(round_)
        markers = self.each_part(lambda index: self.part_marker(round_, index), indices)
        return {index: marker for index, marker in zip(indices, markers, strict=True) if marker is not None}

    def get_part(
        self,
        round_: int,
        stage: str,
        index: int,
        columns: Sequence[str] | None = None,
        *,
        marker: Mapping[str, Any] | None = None,
    ) -> pa.Table:
        """A table of a committed part.

        Args:
            round_: number of the round.
            stage: name of the table.
            index: index of the part.
            columns: the columns to keep, if not all.
            marker: the marker of the part, if it is known, so that it is not read again.

        Raises:
            UserError: a file is missing, or the table does not match the sha256 in the marker.
        """
        name = f"{_part(round_, stage, index)}.parquet"
        data, marker = self.get(name), marker or self.part_marker(round_, index)
        if data is None or marker is None or sha256_of(data) != marker["tables"].get(stage, {}).get("sha256"):
            raise UserError(
                f"{self.path(name)} is damaged; delete it, {self.path(_part(round_, MARKERS, index))}.json and, if there are any, "
                f"{self.path(_round(round_), 'select.json')} and {self.path('train', _round(round_))}, then run the same command again"
            )
        return pq.read_table(io.BytesIO(data), columns=columns and list(columns))

    def each_part(self, work: Callable[[int], T], indices: Iterable[int]) -> list[T]:
        """What a function that reads a part returns for each of some parts; many are read at the same time."""
        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(work, indices))

    def parts(self, round_: int) -> list[int]:
        """Indices of the committed parts of a round."""
        return [int(name[5:-5]) for name in self.names(f"{_round(round_)}/{MARKERS}", "part-", ".json")]

    def rounds(self) -> list[int]:
        """Numbers of the rounds that have any files."""
        return [int(name[6:]) for name in self.names("", "round-", "")]

    def round_folder(self, round_: int, name: str) -> str:
        """Name of a folder of a round, for use with `names`, `put` and `remove`."""
        return f"{_round(round_)}/{name}"

    def remove_round(self, round_: int) -> None:
        """Delete everything of a round, so that it is made again."""
        self.remove(_round(round_))

    def remove_training(self, round_: int) -> None:
        """Delete the working files of a round's training."""
        self.remove(f"train/{_round(round_)}")

    def finish(self, round_: int, stage: str, result: dict[str, Any]) -> None:
        """Commit the result of a stage, which marks the stage as finished."""
        self.put_json(f"{_round(round_)}/{stage}.json", result)

    def result(self, round_: int, stage: str) -> dict[str, Any] | None:
        """Result of a stage; None if the stage is not finished."""
        result = self.get_json(f"{_round(round_)}/{stage}.json")
        return None if result is None else dict(result)

    # --- versions -------------------------------------------------------------------------------

    def publish(
        self, version: int, folder: str | Path, hashes: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, str]:
        """Publish the model in a folder as a version, in place of an earlier version of this number.

        The version does not exist until all of its files are written. If it has the same files already, by their sha256, it
        stays as it is: critics start with it. Files whose sha256 is known and that are in the same object store are copied
        there: they do not pass through this process.

        Args:
            version: number of the version.
            folder: local folder or URI of the model.
            hashes: the sha256 of the files to publish, by their names in the folder; the others in it are left out, as an upload that
                was cut off may have left them. Without hashes, all files are published.

        Returns:
            The sha256 of each file by its name.
        """
        source, marker = list_source(str(folder), hashes), f"{_version(version)}.json"
        known = {name: hashes.get(name) for name in source.files}
        if known == (self.get_json(marker) or {}).get("files"):
            return dict(hashes)
        self.delete(marker)
        self.remove(_version(version))
        with ThreadPoolExecutor(COPIES) as pool:
            names = sorted(source.files)
            copied = pool.map(lambda name: self._copy(source, name, f"{_version(version)}/{name}", hashes), names)
            files = dict(zip(names, copied, strict=True))
        self.put_json(marker, {"version": version, "files": files})
        return files

    def _copy(self, source: Source, file: str, name: str, hashes: Mapping[str, str]) -> str:
        """Copy a file of another folder; returns its sha256. What the storage fails to copy passes through this process."""
        small = (source.files[file].size or 0) <= COPIED_BYTES
        if file in hashes and small and not self.local and source.filesystem.equals(self.quick):
            try:
                self.fs.copy_file(source.path(file), self.path(name))
                return hashes[file]
            except OSError as error:
                reason = redacted(first_line(error))
                _LOG.warning("the storage did not copy %s, so it is read and written: %s", file, reason)

        def copy() -> str:
            with source.open(file) as stream:
                return write_atomically(self.fs, self.path(name), stream)

        return self._patiently("write", name, copy)

    def annotate_version(self, version: int, name: str, content: dict[str, Any]) -> None:
        """Add a JSON file, such as evaluation results, to the folder of a published version."""
        self.put_json(f"{_version(version)}/{name}", content)

    def versions(self) -> list[int]:
        """Numbers of the published versions, in order."""
        names = (name.removesuffix(".json") for name in self.names(VERSIONS, "", ".json"))
        return [int(name) for name in names if name.isdigit()]

    def newest_version(self) -> int:
        """Number of the latest published version; 0 if there is none. Earlier ones may have been deleted."""
        return max(self.versions(), default=0)

    def serve_versions(self, versions: Sequence[int]) -> None:
        """Set the version that each critic loads when it starts; 0 is the initial model."""
        self.put_json(SERVED, {"versions": list(versions)})

    def served_version(self, critic: int) -> int:
        """The version set for a critic by `serve_versions`, the last one for further critics; else the latest published.

        The latest published one also if the version that is set is being published again: then it does not exist.
        """
        versions = (self.get_json(SERVED) or {}).get("versions")
        version = int(versions[min(critic, len(versions) - 1)]) if versions else -1
        exists = version == 0 or (version > 0 and self.get_json(f"{_version(version)}.json") is not None)
        return version if exists else self.newest_version()

    def fetch_version(self, version: int) -> str:
        """Folder of this node with the files of a published version.

        From an object store they are fetched into the cache of the node (see `node_cache`), and stay there until this
        process ends or fetches another version.

        Raises:
            UserError: the version is not published.
            StorageError: this node does not see the run's folder, or the files cannot be fetched.
        """
        marker = self.get_json(f"{_version(version)}.json")
        if marker is None:
            raise UserError(
                f"version {version} is not published in {redacted(self.uri)}; the latest published one is "
                f"{self.newest_version()}"
            )
        if self.local:
            return self.path(_version(version))
        return node_cache().fetch(self.location(_version(version)), marker["files"], slot="version").path


def _round(round_: int) -> str:
    return f"round-{round_:04d}"


def _part(round_: int, stage: str, index: int) -> str:
    return f"{_round(round_)}/{stage}/part-{index:05d}"


def _version(version: int) -> str:
    return f"{VERSIONS}/{version:04d}"
