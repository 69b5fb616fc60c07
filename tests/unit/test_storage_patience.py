"""Storages that are overloaded for a while: nothing is said of a file then."""

import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from actors.progress_board import ProgressBoard
from tests.clock import Clock
from tests.s3_server import S3Server
from vlrm_ray.config import Config, load
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline import preflight
from vlrm_ray.pipeline.preflight import check_images
from vlrm_ray.store import filesystem, images, patience
from vlrm_ray.store.filesystem import may_pass
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.patience import impatient, patiently
from vlrm_ray.store.row_files import ImageWriter, image_file

GCS = "google::cloud::Status({}: Retry policy exhausted, with a last message of {} error_info={{reason=, domain=}})"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that patience looks at, beginning at 0."""
    monkeypatch.setattr(patience, "time", clock := Clock())
    return clock


# --- which errors pass --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "passes"),
    [
        ("When getting information for key 'a': AWS Error SLOW_DOWN during HeadObject operation", True),
        ("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 28, Timeout was reached", True),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation", True),
        (GCS.format("UNAVAILABLE", "no"), True),
        (GCS.format("UNAVAILABLE", "PerformWork() - CURL error [7]=Could not connect to server"), True),
        (GCS.format("RESOURCE_EXHAUSTED", "slow down"), True),
        (GCS.format("DEADLINE_EXCEEDED", "late"), True),
        (GCS.format("INTERNAL", "oops"), True),
        (GCS.format("ABORTED", "again"), True),
        (GCS.format("PERMISSION_DENIED", "no"), False),
        (GCS.format("NOT_FOUND", "no"), False),
        ("AWS Error UNKNOWN (HTTP status 501) during CopyObject operation", False),
        ("AWS Error ACCESS_DENIED during HeadObject operation", False),
        ("Unrecognized filesystem type in URI: nowhere://x", False),
    ],
)
def test_an_image_is_not_blamed_for_its_storage(
    message: str, passes: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> Any:
        raise OSError(message)

    monkeypatch.setattr(images, "_read_object", fails)
    assert may_pass(OSError(message)) is passes
    with pytest.raises(StorageError if passes else BadImage):
        images.read_bytes("s3://bucket/a.png")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_an_image_is_not_blamed_for_a_mounted_file_system(
    number: int, tmp_path: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(images.Path, "read_bytes", fails)
    monkeypatch.setattr(images.os, "scandir", fails)
    monkeypatch.setattr(filesystem, "_is_mounted", lambda path: path == str(tmp_path / "a.png"))
    for uri in (str(tmp_path / "a.png"), f"file://{tmp_path}/a.png"):
        with pytest.raises(StorageError, match=os.strerror(number)):
            images.read_bytes(uri)
    monkeypatch.setattr(filesystem, "_is_mounted", lambda _: False)
    with pytest.raises(BadImage if number == errno.EIO else StorageError):
        images.read_bytes(str(tmp_path / "a.png"))


class Mount:
    """A mounted file system with one image, which it cannot read; whether it can be listed is told."""

    def __init__(self, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.image, self.list_fails, real = folder / "a.png", lambda: False, os.scandir
        self.image.touch()
        monkeypatch.setattr(images.os, "scandir", lambda path: self.fail() if self.list_fails() else real(path))
        monkeypatch.setattr(images.Path, "read_bytes", lambda _: self.fail())
        monkeypatch.setattr(filesystem, "_is_mounted", lambda _: True)

    def fail(self) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def mount(tmp_path: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Mount:
    return Mount(tmp_path, monkeypatch)


def test_a_damaged_file_is_given_up_soon_if_its_folder_answers(mount: Mount, clock: Clock) -> None:
    with pytest.raises(BadImage, match="image_unreadable"):
        images.read_bytes(str(mount.image))
    assert clock.now == pytest.approx(30)


def test_patience_with_a_file_begins_when_its_folder_answers(mount: Mount, clock: Clock) -> None:
    mount.list_fails = lambda: clock.now < 200
    with pytest.raises(BadImage, match="image_unreadable"):
        images.read_bytes(str(mount.image))
    assert 230 <= clock.now <= 260  # a pause is at most 30 s


def prompts_of(folder: Any, *names: str) -> tuple[Config, Ledger]:
    source = folder / "p.jsonl"
    source.write_text("".join(json.dumps({"image": str(folder / n), "question": "Why?"}) + "\n" for n in names))
    return load(None, [f"prompts.source={source}", "rounds=1"]), Ledger(str(folder / "run"))


def test_a_run_starts_with_a_damaged_file_among_its_images(mount: Mount, tmp_path: Any) -> None:
    with pytest.raises(UserError, match=r"image_unreadable 1 of 1 prompts"):
        check_images(*prompts_of(tmp_path, "a.png"))


def test_a_run_whose_storage_fails_does_not_start(mount: Mount, tmp_path: Any) -> None:
    mount.list_fails = lambda: True
    with pytest.raises(StorageError, match=r"cannot read .*a\.png: "):
        check_images(*prompts_of(tmp_path, "a.png"))


def test_a_run_starts_if_one_of_its_storages_answers(
    mount: Mount, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(image: str) -> None:
        if image.endswith("a.png"):
            raise StorageError("away")

    monkeypatch.setattr(preflight, "validate_image", read)
    check_images(*prompts_of(tmp_path, "a.png", "b.png"))


def test_a_file_is_not_taken_for_an_outage_by_its_name() -> None:
    assert not may_pass(PermissionError(errno.EACCES, "Permission denied", "/photos/timed out/a.png"))
    assert not may_pass(UserError("row 3 of timed out.jsonl has changed"))


def test_the_types_of_mounted_file_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nhost:/x /mnt/my\\040data nfs4 rw 0 0\n/dev/sdb /mnt/my\\040data/b xfs rw 0 0\n"
    )
    monkeypatch.setattr(filesystem, "_MOUNTS", str(mounts))
    found = [filesystem._is_mounted(path) for path in ("/a", "/mnt/my data/a", "/mnt/my data/b/c", "/mnt/my data2")]
    assert found == [False, True, False, False]


# --- patience -----------------------------------------------------------------------------------


class Work:
    """Fails some times, then returns 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 7


BUSY = OSError("AWS Error SLOW_DOWN during GetObject operation")


def test_work_is_done_again_while_its_storage_is_busy() -> None:
    work = Work(BUSY, TimeoutError("timed out"))
    assert patiently(work, "s3://bucket/a") == 7
    assert work.calls == 3


def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    work = Work(BUSY, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError):
        patiently(work, "s3://bucket/a")
    assert work.calls == 2


def test_patience_ends_with_the_last_error(clock: Clock) -> None:
    work = Work(*[BUSY] * 1000)
    with pytest.raises(OSError, match="SLOW_DOWN"):
        patiently(work, "s3://bucket/a")
    assert clock.now == pytest.approx(600)
    assert 600 / 30 < work.calls < 2 * 600 / 30 + 10  # pauses of 15 to 30 s, after shorter ones


def test_what_is_new_is_tried_once() -> None:
    work = Work(BUSY)
    with impatient(), pytest.raises(OSError, match="SLOW_DOWN"):
        patiently(work, "s3://bucket/a")
    assert work.calls == 1
    assert patiently(Work(BUSY), "s3://bucket/a") == 7


def test_several_waits_of_one_caller_share_its_time(clock: Clock) -> None:
    with patience.patient_for(90), patience.patient_for(600):
        for _ in range(3):
            with pytest.raises(OSError, match="SLOW_DOWN"):
                patiently(Work(*[BUSY] * 1000), "s3://bucket/a")
    assert clock.now == pytest.approx(90)
    assert patiently(Work(BUSY), "s3://bucket/a") == 7


def test_a_line_of_the_log_names_what_waits(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    patiently(Work(BUSY), "s3://bucket/a")
    assert not caplog.records  # not within the first minute
    monkeypatch.setattr(patience, "NOTICE_SECONDS", 0)
    with caplog.at_level(logging.WARNING):
        patiently(Work(BUSY, BUSY), "s3://key:secret@bucket/a")
    first, last = (record.getMessage() for record in caplog.records)
    assert first == "waiting up to 600 s more for s3://***@bucket/a: AWS Error SLOW_DOWN during GetObject operation"
    assert last == "the storage answers again: s3://***@bucket/a"


# --- an object store ----------------------------------------------------------------------------


@pytest.fixture
def hasty_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clients that ask once, and wait 1 s for an answer to a small request."""
    monkeypatch.setattr(filesystem, "S3_ATTEMPTS", 1)
    monkeypatch.setattr(filesystem, "S3_READ_SECONDS", 1)
    filesystem._open_bucket.cache_clear()
    yield
    filesystem._open_bucket.cache_clear()


def test_a_run_waits_for_a_throttled_store(s3: S3Server, hasty_clients: None, monkeypatch: pytest.MonkeyPatch) -> None:
    image, ledger = s3.put("photo.bin", b"pixels"), Ledger(s3.uri("runs/mine"))
    left = [0]

    def throttle(_: BaseHTTPRequestHandler) -> int:
        left[0] -= 1
        return 503 if left[0] >= 0 else 0

    monkeypatch.setattr(S3Server, "faults", throttle)
    for work, expected in (
        (lambda: ledger.put("round-0001/x.json", b"{}"), None),
        (lambda: ledger.get("round-0001/x.json"), b"{}"),
        (lambda: ledger.names("round-0001", "", ".json"), ["x.json"]),
        (lambda: ledger.missing(["round-0001/x.json", "round-0001/y.json"]), {"round-0001/y.json"}),
        (lambda: images.read_bytes(image), b"pixels"),
        (lambda: ledger.delete("round-0001/x.json"), None),
        (lambda: ledger.get("round-0001/x.json"), None),
    ):
        left[0] = 3
        assert work() == expected
        assert left[0] < 0


def is_copy(request: BaseHTTPRequestHandler) -> bool:
    return "x-amz-copy-source" in request.headers


def published(s3: S3Server) -> tuple[dict[str, str], str]:
    """Publish a version whose one file is in the store already, with its known hash."""
    ledger, known = Ledger(s3.uri("runs/mine")), {"model.safetensors": sha256_of(b"weights")}
    ledger.put("train/step/hf/model.safetensors", b"weights")
    s3.requests.clear()
    hashes = ledger.publish(1, ledger.location("train/step", "hf"), known)
    assert hashes == known
    return hashes, "runs/mine/train/step/hf/model.safetensors"


def test_a_copy_within_the_store_may_be_silent_for_long(
    s3: S3Server, hasty_clients: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Server, "faults", lambda request: time.sleep(4 * is_copy(request)) or 0)
    _, file = published(s3)
    assert s3.reads(file) == 0


def test_what_the_store_does_not_copy_is_read_and_written(
    s3: S3Server, hasty_clients: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Server, "faults", lambda request: 501 * is_copy(request))
    _, file = published(s3)
    assert s3.reads(file) == 1
    assert s3.get("runs/mine/versions/0001/model.safetensors") == b"weights"


def test_uploads_and_copies_may_take_minutes_and_reads_may_not() -> None:
    """The file system for writing is also the one by which Ray Train uploads checkpoints."""
    ledger = Ledger("s3://key:secret@bucket/run?region=x")
    (writing,), (quick,) = ledger.fs.__reduce__()[1], ledger.quick.__reduce__()[1]
    assert writing["request_timeout"] >= 300
    assert quick["request_timeout"] <= 30
    assert writing["connect_timeout"] == quick["connect_timeout"] == 5


# --- images of rows, progress -------------------------------------------------------------------


def test_images_of_rows_are_stored_once_each(tmp_path: Any) -> None:
    ledger, contents = Ledger(str(tmp_path)), [bytes([i % 100]) * 9 for i in range(150)]
    with ImageWriter(ledger) as writer:
        for content in contents:
            writer.put(sha256_of(content), content)
    assert {ledger.get(image_file(sha256_of(content))) for content in contents} == set(contents)


def test_an_image_that_cannot_be_stored_is_told(tmp_path: Any) -> None:
    (tmp_path / "images").touch()
    with pytest.raises(StorageError, match="images is a file"), ImageWriter(Ledger(str(tmp_path))) as writer:
        writer.put("a", b"a")


def test_an_engine_that_started_late_was_not_busy_before() -> None:
    board = ProgressBoard()
    board.add("generate", 3, 100.0, "policy-0")
    board.clear_times()
    board.add("generate", 5, 50.0, "policy-0")  # sent before
    seconds, spans = board.busy()
    assert board.counts() == {"generate": 8}
    assert seconds["generate"] < 5
    assert all(end - start < 5 for start, end in spans.get("policy-0", []))
