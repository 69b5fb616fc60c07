"""Errors of storage end a program in one line that names the folder and the remedy."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vlrm_ray.errors import StorageError, run_as_program, user_message
from vlrm_ray.store import filesystem
from vlrm_ray.store.filesystem import joined, redacted
from vlrm_ray.store.lease import Lease
from vlrm_ray.store.ledger import Ledger

ROOT = Path(__file__).parents[2]


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    return {name: str(tmp_path / name) for name in ("file", "link", "new")}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("{file}", "file is a file, not a folder"),
        ("{file}/run", "file is a file, not a folder"),
        ("file://{file}/run", "file is a file, not a folder"),
        ("{link}/run", "link is a broken link"),
        ("/proc/runs", r"cannot write /proc/runs/driver.json: No such file or directory \(in /proc\)"),
        ("/dev/full/run", "/dev/full is a file, not a folder"),
        ("{new}" + "x" * 300, "File name too long"),
        ("{new}\0", "NUL"),
        ("ftp://host/run", "ftp://host/run: Unrecognized filesystem type"),
        ("S3://bucket/run", "Unrecognized filesystem type"),
        ("https://host/run", "Unrecognized filesystem type"),
        ("s3:/bucket/run", "add the slashes"),
        ("s3://my bucket/run", "space is written as %20"),
        ("s3:///run?region=x", "Missing bucket name"),
        ("s3://bucket/run?region=x&colour=red", "Unexpected query parameter"),
        ("s3://key:secret@my bucket/run", r"s3://\*\*\*@my bucket/run"),
        ("file://host/run", "correct the URI"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(uri: str, message: str, paths: dict[str, str]) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        Lease(Ledger(uri.format(**paths)), "here:1").claim()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(uri: str) -> None:
        raise OSError("Unable to load libjvm\ndlopen(libjvm.so) failed")

    monkeypatch.setattr(filesystem, "pafs", type("Stub", (), {"FileSystem": type("F", (), {"from_uri": no_library})}))
    with pytest.raises(StorageError, match="Unable to load libjvm; install a Java runtime"):
        Ledger("hdfs://host/run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_failed_write_leaves_no_temporary_file(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(str(tmp_path / "run"))
    ledger.put("a.json", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=os.strerror(number)):
        ledger.put("a.json", b"new")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.json"]
    assert ledger.get("a.json") == b"old"


def test_a_full_disk_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="free space, then run the same command again"):
        Ledger(str(tmp_path)).put_json("x.json", {})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"owner": "a:1"}', b'{"owner": 1, "time": "x"}'])
def test_a_damaged_lease_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "driver.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"driver\.json is"):
        Lease(Ledger(str(tmp_path)), "here:1").claim()


class ObjectStore(BaseHTTPRequestHandler):
    """Answers every request of an S3 client with one error, or not at all."""

    code = "NoSuchBucket"

    def answer(self) -> None:
        if self.code == "mute":
            time.sleep(30)
            return
        status = {"NoSuchBucket": 404, "AccessDenied": 403, "SlowDown": 503}[self.code]
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ObjectStore)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"s3://key:secret@bucket/run?scheme=http&endpoint_override=127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("NoSuchBucket", "create the bucket"),
        ("AccessDenied", "check the credentials"),
        ("SlowDown", "cannot read"),
        ("mute", "check the network"),
    ],
)
def test_an_object_store_that_does_not_work_is_named_soon(
    code: str, message: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "code", code)
    monkeypatch.setattr(filesystem, "S3_READ_SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(StorageError, match=message) as caught:
        Lease(Ledger(store), "here:1").claim()
    assert time.monotonic() - start < 60
    assert "run/driver.json?scheme" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_storage_that_does_not_open_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "PROBE_SECONDS", 0.1)
    with pytest.raises(StorageError, match=r"timed out after 0\.1 s; check the network"):
        Ledger("s3://some-bucket-that-nobody-asks-for/run")


def test_names_are_joined_before_the_options_of_a_uri() -> None:
    assert joined("runs/", "x") == "runs/x"
    assert joined("", "x") == "x"
    assert joined("/", "x") == "/x"
    assert joined("s3://b/runs/?region=eu", "x") == "s3://b/runs/x?region=eu"
    assert redacted("s3://k:s@b/x and gs://b/y@z") == "s3://***@b/x and gs://b/y@z"
    assert redacted("http://token@host/x") == "http://***@host/x"
    azure = "abfs://container@account.dfs.core.windows.net/x", "ABFSS://container@account/x"
    assert [redacted(uri) for uri in azure] == list(azure), "what is before the @ is no password"
    assert redacted("abfs://me:secret@container.account/x") == "abfs://***@container.account/x"


class Wrapped(Exception):
    """As Ray wraps what a task raises."""

    def __init__(self, text: str, cause: Exception | None = None) -> None:
        super().__init__(text)
        self.cause = cause


def test_an_error_from_a_ray_task_is_shown_as_one_line() -> None:
    assert user_message(Wrapped("a traceback\nmany lines", StorageError("no space"))) == "no space"
    text = "ray::f() (pid=1)\n  File x\nvlrm_ray.errors.StorageError: cannot write /a: full; free space\n"
    assert user_message(Wrapped(text)) == "cannot write /a: full; free space"
    assert user_message(OSError(errno.ENOSPC, "No space left on device", "/a/b")) is not None
    assert user_message(OSError(errno.ENOENT, "No such file or directory", "/a/b")) is None
    assert user_message(ValueError("a bug")) is None
    assert user_message(Wrapped("torch._dynamo.exc.UserError: x")) is None


def test_a_bug_keeps_its_traceback() -> None:
    def bug() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_as_program(bug)


def test_the_driver_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    command = [sys.executable, str(ROOT / "jobs" / "iterate.py"), "name=x", "folder=afile", "rounds=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "afile is a file, not a folder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
