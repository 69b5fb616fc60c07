"""Storages that are overloaded for a while: nothing is said of a file then."""

from typing import Any

import pytest

from actors.progress_board import ProgressBoard
from vlrm_ray.errors import BadImage, StorageError
from vlrm_ray.ids import sha256_of
from vlrm_ray.store import images
from vlrm_ray.store.filesystem import may_pass
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_files import image_file, store_images


@pytest.mark.parametrize(
    ("message", "passes"),
    [
        ("When getting information for key 'a': AWS Error SLOW_DOWN during HeadObject operation", True),
        ("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 28, Timeout was reached", True),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation", True),
        ("AWS Error ACCESS_DENIED during HeadObject operation", False),
        ("Unrecognized filesystem type in URI: nowhere://x", False),
    ],
)
def test_an_image_is_not_blamed_for_its_storage(message: str, passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> Any:
        raise OSError(message)

    monkeypatch.setattr(images, "_read_object", fails)
    assert may_pass(OSError(message)) is passes
    with pytest.raises(StorageError if passes else BadImage):
        images.read_bytes("s3://bucket/a.png")


def test_images_of_rows_are_stored_once_each(tmp_path: Any) -> None:
    ledger, contents = Ledger(str(tmp_path)), [bytes([i % 100]) * 9 for i in range(150)]
    store_images(((sha256_of(content), content) for content in contents), ledger)
    assert {ledger.get(image_file(sha256_of(content))) for content in contents} == set(contents)


def test_an_engine_that_started_late_was_not_busy_before() -> None:
    board = ProgressBoard()
    board.add("generate", 3, 100.0, "policy-0")
    board.clear_times()
    board.add("generate", 5, 50.0, "policy-0")  # sent before
    seconds, spans = board.busy()
    assert board.counts() == {"generate": 8}
    assert seconds["generate"] < 5
    assert all(end - start < 5 for start, end in spans.get("policy-0", []))
