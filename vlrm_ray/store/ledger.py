"""The state of a run: parts, manifests and published versions, each there whole or not at all.

    runs/<name>/config.json
    runs/<name>/round-0001/<stage>/part-00000.parquet   beside it its marker, written last:
    runs/<name>/round-0001/<stage>/part-00000.json      {sha256, rows, ...}
    runs/<name>/round-0001/<stage>.json                 the stage's result: it is finished
    runs/<name>/versions/0001/...                       a published reward model
    runs/<name>/versions/0001.json                      its marker, with a sha256 for each file

Readers see a part, a result or a version only through its marker. Storage is any `pyarrow.fs` URI.
"""

import io
import json
import os
import posixpath
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlrm_ray.errors import UserError
from vlrm_ray.ids import sha256_of

STAGES = ("generate", "verify", "pair", "critique", "select", "train", "evaluate", "publish")
LEASE_SECONDS = 90
"""A driver that has not renewed its lease for so long is taken for dead."""


class Ledger:
    """A run's folder. Cheap to send to actors: it holds nothing but the address."""

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else os.path.abspath(uri)
        self._connect()

    def _connect(self) -> None:
        self.root: str
        self.fs, self.root = (
            pafs.FileSystem.from_uri(self.uri) if "://" in self.uri else (pafs.LocalFileSystem(), self.uri)
        )
        self.local = isinstance(self.fs, pafs.LocalFileSystem)

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.uri = state["uri"]
        self._connect()

    def path(self, *names: str) -> str:
        """Path inside the run's folder, as the file system knows it."""
        return posixpath.join(self.root, *names)

    # --- single files ---------------------------------------------------------------------------

    def put(self, name: str, data: bytes) -> None:
        """Write a file, all or nothing."""
        path = self.path(name)
        self.fs.create_dir(posixpath.dirname(path), recursive=True)
        if not self.local:  # one PUT of an object store is atomic
            with self.fs.open_output_stream(path) as stream:
                stream.write(data)
            return
        partial = f"{path}.{uuid.uuid4().hex}.tmp"
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    def get(self, name: str) -> bytes | None:
        """A file's content, or None."""
        try:
            with self.fs.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def put_json(self, name: str, value: Any) -> None:
        """Write JSON, all or nothing."""
        self.put(name, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")

    def get_json(self, name: str) -> Any | None:
        """Read JSON, or None."""
        data = self.get(name)
        return None if data is None else json.loads(data)

    # --- parts and stages -----------------------------------------------------------------------

    def put_part(self, round_: int, stage: str, index: int, table: pa.Table, facts: dict[str, Any]) -> None:
        """Commit one part of a stage: the rows first, then the marker that makes them exist."""
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        data, name = sink.getvalue(), _part(round_, stage, index)
        self.put(f"{name}.parquet", data)
        self.put_json(f"{name}.json", {"sha256": sha256_of(data), "rows": table.num_rows, **facts})

    def part_facts(self, round_: int, stage: str, index: int) -> dict[str, Any] | None:
        """A committed part's marker, or None."""
        found = self.get_json(f"{_part(round_, stage, index)}.json")
        return None if found is None else dict(found)

    def get_part(self, round_: int, stage: str, index: int) -> pa.Table:
        """A committed part's rows; raises UserError where they are not what the marker names."""
        name = _part(round_, stage, index)
        data, facts = self.get(f"{name}.parquet"), self.get_json(f"{name}.json")
        if data is None or facts is None or sha256_of(data) != facts["sha256"]:
            raise UserError(f"{self.path(name)}.parquet is damaged; delete it and its .json, then start again")
        return pq.read_table(io.BytesIO(data))

    def parts(self, round_: int, stage: str) -> list[int]:
        """Indices of a stage's committed parts."""
        return [int(name[5:-5]) for name in self._names(f"{_round(round_)}/{stage}", "part-", ".json")]

    def rounds(self) -> list[int]:
        """Numbers of the rounds that have left anything."""
        return [int(name[6:]) for name in self._names("", "round-", "")]

    def _names(self, folder: str, prefix: str, suffix: str) -> list[str]:
        found = self.fs.get_file_info(pafs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted(i.base_name for i in found if i.base_name.startswith(prefix) and i.base_name.endswith(suffix))

    def finish(self, round_: int, stage: str, result: dict[str, Any]) -> None:
        """Commit a stage's result."""
        self.put_json(f"{_round(round_)}/{stage}.json", result)

    def result(self, round_: int, stage: str) -> dict[str, Any] | None:
        """A finished stage's result, or None."""
        found = self.get_json(f"{_round(round_)}/{stage}.json")
        return None if found is None else dict(found)

    # --- versions -------------------------------------------------------------------------------

    def publish(self, version: int, folder: Path) -> dict[str, str]:
        """Commit a reward model's folder as a version; returns the sha256 of each file."""
        hashes = {}
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, data = str(file.relative_to(folder)), file.read_bytes()
            hashes[name] = sha256_of(data)
            self.put(f"{_version(version)}/{name}", data)
        self.put_json(f"{_version(version)}.json", {"version": version, "files": hashes})
        return hashes

    def annotate_version(self, version: int, name: str, facts: dict[str, Any]) -> None:
        """Put what was found out about a published version beside its weights."""
        self.put_json(f"{_version(version)}/{name}", facts)

    def newest_version(self) -> int:
        """The highest published version, 0 before the first."""
        version = 0
        while self.get_json(f"{_version(version + 1)}.json") is not None:
            version += 1
        return version

    def fetch_version(self, version: int) -> str:
        """Local folder with a published version's files, copied from remote storage if need be."""
        marker = self.get_json(f"{_version(version)}.json")
        if marker is None:
            raise UserError(f"version {version} is not published in {self.uri}")
        if self.local:
            return self.path(_version(version))
        folder = Path(tempfile.mkdtemp(prefix=f"vlrm-version-{version}-"))
        for name in marker["files"]:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.get(f"{_version(version)}/{name}") or b"")
        return str(folder)

    # --- one driver per run ---------------------------------------------------------------------

    def claim(self, owner: str) -> None:
        """Become the run's only driver; raises UserError while another one is alive."""
        lease = self.get_json("driver.json")
        if (
            lease
            and lease["owner"] != owner
            and time.time() - lease["time"] < LEASE_SECONDS
            and _may_live(lease["owner"])
        ):
            raise UserError(
                f"run {self.uri} has a driver already ({lease['owner']}); wait for it, or choose another name="
            )
        self.renew(owner)

    def renew(self, owner: str) -> None:
        """Say that the driver is alive."""
        self.put_json("driver.json", {"owner": owner, "time": time.time()})

    def release(self) -> None:
        """Give the run free."""
        if self.get("driver.json") is not None:
            self.fs.delete_file(self.path("driver.json"))

    def remove(self, name: str) -> None:
        """Delete a folder of working files, if it is there."""
        if self.local:
            shutil.rmtree(self.path(name), ignore_errors=True)
        elif self.fs.get_file_info(self.path(name)).type == pafs.FileType.Directory:
            self.fs.delete_dir(self.path(name))


def driver_name() -> str:
    """Who this driver is: host and process."""
    import socket

    return f"{socket.gethostname()}:{os.getpid()}"


def _may_live(owner: str) -> bool:
    """Whether a driver may be alive; certain only for processes of this host."""
    host, _, pid = owner.rpartition(":")
    if host != driver_name().rpartition(":")[0]:
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _round(round_: int) -> str:
    return f"round-{round_:04d}"


def _part(round_: int, stage: str, index: int) -> str:
    return f"{_round(round_)}/{stage}/part-{index:05d}"


def _version(version: int) -> str:
    return f"versions/{version:04d}"
