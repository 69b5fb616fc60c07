"""The ledger: atomic parts and versions, and the lease of a run."""

import os
import pickle
import socket
from pathlib import Path

import pyarrow as pa
import pytest

from vlrm_ray.errors import UserError
from vlrm_ray.store.lease import Lease
from vlrm_ray.store.ledger import Ledger

TABLE = pa.table({"x": [1, 2, 3]})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


def test_a_part_without_its_marker_does_not_exist(ledger: Ledger) -> None:
    ledger.put_part(1, 0, {"select": TABLE}, {})
    Path(ledger.path("round-0001/parts/part-00000.json")).unlink()
    assert ledger.part_marker(1, 0) is None
    assert ledger.parts(1) == []


def test_a_committed_part_is_read_back(ledger: Ledger) -> None:
    ledger.put_part(1, 0, {"select": TABLE, "rows": TABLE.slice(1)}, {"note": 1})
    assert ledger.get_part(1, "select", 0).equals(TABLE)
    assert ledger.get_part(1, "rows", 0).equals(TABLE.slice(1))
    marker = ledger.part_marker(1, 0)
    assert marker is not None
    assert marker["note"] == 1
    assert {name: table["rows"] for name, table in marker["tables"].items()} == {"select": 3, "rows": 2}


def test_the_markers_of_a_round_are_read_together(ledger: Ledger) -> None:
    for index in (40, 3, 12):
        ledger.put_part(1, index, {}, {"index": index})
    assert ledger.parts(1) == [3, 12, 40]
    assert {index: marker["index"] for index, marker in ledger.part_markers(1).items()} == {3: 3, 12: 12, 40: 40}
    assert ledger.part_markers(2) == {}


def test_equal_rows_give_equal_hashes(ledger: Ledger) -> None:
    ledger.put_part(1, 0, {"select": TABLE}, {})
    ledger.put_part(2, 0, {"select": TABLE}, {})
    first, second = (ledger.part_marker(r, 0) or {} for r in (1, 2))
    assert first["tables"] == second["tables"]


def test_a_damaged_part_is_refused(ledger: Ledger) -> None:
    ledger.put_part(1, 0, {"select": TABLE}, {})
    Path(ledger.path("round-0001/select/part-00000.parquet")).write_bytes(b"garbage")
    with pytest.raises(UserError, match="damaged"):
        ledger.get_part(1, "select", 0)


def test_a_version_exists_once_its_marker_does(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert ledger.newest_version() == 0
    ledger.publish(1, tmp_path / "model")
    assert ledger.newest_version() == 1
    assert Path(ledger.fetch_version(1), "config.json").read_text() == "{}"
    with pytest.raises(UserError):
        ledger.fetch_version(2)


def test_a_second_driver_is_refused_until_the_lease_is_released(ledger: Ledger) -> None:
    running = f"{socket.gethostname()}:{os.getppid()}"
    Lease(ledger, running).claim()
    with pytest.raises(UserError, match="in use by another driver"):
        Lease(ledger, "here:2").claim()
    Lease(ledger, running).release()
    Lease(ledger, "here:2").claim()


def test_only_the_uri_is_pickled(ledger: Ledger) -> None:
    assert pickle.loads(pickle.dumps(ledger)).uri == ledger.uri


def test_no_temporary_file_is_left(ledger: Ledger) -> None:
    ledger.put_json("a/b.json", {"x": 1})
    assert [p.name for p in Path(ledger.path("a")).iterdir()] == ["b.json"]


def test_a_version_of_an_interrupted_round_is_published_again(ledger: Ledger, tmp_path: Path) -> None:
    from typing import cast

    from vlrm_ray.config import Config
    from vlrm_ray.pipeline.progress import Progress
    from vlrm_ray.pipeline.rounds import Fleet, Rounds

    rounds = Rounds(Config(), ledger, cast(Fleet, None), Progress())
    (tmp_path / "model").mkdir()
    ledger.publish(1, tmp_path / "model")
    assert ledger.newest_version() == 1
    assert rounds.base_version(1) == 0
    ledger.finish(1, "publish", {"version": 1, "files": {}, "seconds": 0.0})
    assert rounds.base_version(2) == 1


def test_critics_start_with_the_newest_version_unless_another_is_named(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    assert ledger.served_version(0) == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_text("{}")
    ledger.publish(1, str(tmp_path / "new"))
    assert ledger.served_version(0) == 1
    ledger.serve_versions([0, 1])
    assert [ledger.served_version(critic) for critic in (0, 1, 2)] == [0, 1, 1]


def test_critics_start_with_the_newest_version_if_the_served_one_is_gone(ledger: Ledger, tmp_path: Path) -> None:
    """A driver was killed after it had removed a version that it was publishing again."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for version in (1, 2):
        ledger.publish(version, tmp_path / "model")
    ledger.serve_versions([0, 2])
    Path(ledger.path("versions/0002.json")).unlink()
    assert [ledger.served_version(critic) for critic in (0, 1)] == [0, 1]
    assert Path(ledger.fetch_version(ledger.served_version(1)), "config.json").is_file()


def test_earlier_versions_may_be_deleted(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for version in (1, 2):
        ledger.publish(version, tmp_path / "model")
    ledger.remove("versions/0001")
    ledger.delete("versions/0001.json")
    assert (ledger.versions(), ledger.newest_version()) == ([2], 2)


def test_a_version_with_the_same_files_is_not_published_again(ledger: Ledger, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    hashes = ledger.publish(1, model)
    marker, file = (Path(ledger.path(name)) for name in ("versions/0001.json", "versions/0001/config.json"))
    written = marker.stat().st_ino, file.stat().st_ino
    assert ledger.publish(1, model, hashes) == hashes
    assert (marker.stat().st_ino, file.stat().st_ino) == written
    (model / "config.json").write_text("{1}")
    assert ledger.publish(1, model) != hashes
    assert file.read_text() == "{1}"


def test_a_part_that_is_committed_again_does_not_exist_meanwhile(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between would leave new tables beside the old marker."""
    ledger.put_part(1, 0, {"pair": pa.table({"id": [1]})}, {})

    def killed(name: str, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        ledger.put_part(1, 0, {"pair": pa.table({"id": [2]})}, {})
    assert ledger.parts(1) == []
