"""The cache of a node: one download for all processes, complete or absent, bounded, and repaired."""

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from tests.s3_server import S3Server
from vlrm_ray.errors import StorageError
from vlrm_ray.ids import sha256_of
from vlrm_ray.store import node_cache, patience
from vlrm_ray.store.node_cache import Fetched, NodeCache
from vlrm_ray.store.patience import impatient

MODEL = {"config.json": b"{}", "weights/a.bin": b"a" * 3_000_000, "weights/b.bin": b"b" * 1000}


def upload(s3: S3Server, folder: str = "model", files: dict[str, bytes] = MODEL) -> str:
    for name, data in files.items():
        s3.put(f"{folder}/{name}", data)
    return s3.uri(folder)


def content(folder: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


@pytest.fixture
def cache(tmp_path: Path) -> NodeCache:
    return NodeCache(str(tmp_path / "cache"))


def test_a_folder_is_fetched_once(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    fetched = cache.fetch(uri)
    assert content(fetched.path) == MODEL
    assert Path(fetched.path).name == "model"
    assert fetched.hashes == {name: sha256_of(data) for name, data in MODEL.items()}
    before = s3.reads("model/weights/a.bin")
    assert cache.fetch(uri) == fetched
    assert s3.reads("model/weights/a.bin") == before
    assert sorted(p.suffix for p in Path(fetched.path).parents[1].iterdir()) == ["", ".lock", ".lock", ".use"]


def test_the_files_of_a_folder_are_fetched_with_the_patience_of_the_caller(
    s3: S3Server, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    monkeypatch.setattr(node_cache, "copy_hashed", raise_busy)
    with impatient(), pytest.raises(StorageError, match="SLOW_DOWN"):
        cache.fetch(upload(s3))


def raise_busy(*_: object) -> str:
    raise OSError("AWS Error SLOW_DOWN during GetObject operation")


def test_a_file_keeps_its_name(s3: S3Server, cache: NodeCache) -> None:
    fetched = cache.fetch(s3.put("models/detector v1.pt", b"weights").replace(" ", "%20"))
    assert Path(fetched.path).name == "detector v1.pt"
    assert Path(fetched.path).read_bytes() == b"weights"
    assert fetched.hashes == {"": sha256_of(b"weights")}


def test_a_source_that_has_changed_is_fetched_again(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    cache.fetch(uri)
    upload(s3, files={"config.json": b"{1}"})
    assert content(cache.fetch(uri).path)["config.json"] == b"{1}"


def test_credentials_are_not_part_of_what_is_stored(s3: S3Server, cache: NodeCache) -> None:
    fetched = cache.fetch(upload(s3))
    entry = Path(fetched.path).parent / "entry.json"
    assert "secret" not in entry.read_text()
    assert json.loads(entry.read_text())["source"].startswith("s3://***@")


def fetch_in_process(folder: str, uri: str, results: "multiprocessing.Queue[Fetched]") -> None:
    results.put(NodeCache(folder).fetch(uri))


def test_two_processes_at_once_download_once(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    spawn = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Fetched] = spawn.Queue()
    processes = [spawn.Process(target=fetch_in_process, args=(cache.folder, uri, results)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = results.get(timeout=120), results.get(timeout=120)
    for process in processes:
        process.join(timeout=60)
    assert first == second
    assert content(first.path) == MODEL
    assert s3.reads("model/config.json") == 1


def test_threads_at_once_download_once(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    threads = [threading.Thread(target=cache.fetch, args=(uri,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(cache.fetch(uri).path) == MODEL
    assert s3.reads("model/config.json") == 1


@pytest.mark.parametrize(
    "damage", [b"", b"a" * 2_999_999, b"x" * 3_000_000, None], ids=["empty", "cut", "other", "gone"]
)
def test_a_damaged_file_is_fetched_again(damage: bytes | None, s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    file = Path(cache.fetch(uri).path, "weights/a.bin")
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert content(cache.fetch(uri).path) == MODEL


def test_a_file_that_was_only_touched_is_not_fetched_again(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    os.utime(Path(cache.fetch(uri).path, "config.json"), (1, 1))
    cache.fetch(uri)
    assert s3.reads("model/config.json") == 1


def test_what_a_killed_process_has_left_is_replaced(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    entry = Path(cache.fetch(uri).path).parent
    partial = entry.with_name(f"{entry.name}.partial")
    entry.rename(partial)
    (partial / "entry.json").unlink()
    assert content(cache.fetch(uri).path) == MODEL
    assert not partial.exists()


def test_known_hashes_are_verified(s3: S3Server, cache: NodeCache) -> None:
    uri = upload(s3)
    hashes = {name: sha256_of(data) for name, data in MODEL.items()}
    s3.put("model/report.json", b"not part of it")
    assert content(cache.fetch(uri, hashes).path) == MODEL
    with pytest.raises(StorageError, match=r"config\.json is damaged or changes while it is read.*upload it again"):
        cache.fetch(uri, hashes | {"config.json": "0" * 64})
    with pytest.raises(StorageError, match=r"more\.bin is missing"):
        cache.fetch(uri, hashes | {"more.bin": "0" * 64})
    assert [p.suffix for p in Path(cache.folder, "folders").iterdir() if p.is_dir()] == [""]


def test_a_download_that_fails_leaves_nothing(s3: S3Server, cache: NodeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError("AWS Error NETWORK_CONNECTION during GetObject\nmore")

    monkeypatch.setattr(node_cache, "copy_hashed", fail)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0)
    with pytest.raises(
        StorageError, match=r"cannot fetch s3://\*\*\*@.*NETWORK_CONNECTION.*check the network"
    ) as caught:
        cache.fetch(upload(s3))
    assert "\n" not in str(caught.value)
    assert not [p for p in Path(cache.folder, "folders").iterdir() if p.is_dir()]


def test_a_source_that_does_not_exist_is_named(s3: S3Server, cache: NodeCache) -> None:
    with pytest.raises(StorageError, match="there is no such folder or file; correct the URI"):
        cache.fetch(s3.uri("nothing"))


# --- room ---------------------------------------------------------------------------------------


def three(s3: S3Server) -> list[str]:
    """Three files of 1 MB."""
    return [s3.put(f"{name}.bin", name.encode() * 1_000_000) for name in "abc"]


def stored(cache: NodeCache) -> set[str]:
    return {p.name for p in Path(cache.folder, "folders").glob("*/*.bin")}


def test_the_least_recently_used_is_deleted(s3: S3Server, tmp_path: Path) -> None:
    cache, (a, b, c) = NodeCache(str(tmp_path / "cache"), limit=2_500_000), three(s3)
    for uri in (a, b, a):
        cache.fetch(uri, slot="one at a time")
        time.sleep(0.02)
    cache.fetch(c, slot="one at a time")
    assert stored(cache) == {"a.bin", "c.bin"}


def test_the_old_version_is_in_use_until_the_new_one_is_there(s3: S3Server, tmp_path: Path) -> None:
    cache, (a, b, _) = NodeCache(str(tmp_path / "cache"), limit=1_500_000), three(s3)
    cache.fetch(a, slot="version")
    with pytest.raises(StorageError, match="set VLRM_CACHE_GB"):
        cache.fetch(b, slot="version")
    assert stored(cache) == {"a.bin"}


def test_what_is_in_use_is_not_deleted(s3: S3Server, tmp_path: Path) -> None:
    cache, (a, b, c) = NodeCache(str(tmp_path / "cache"), limit=2_500_000), three(s3)
    other = NodeCache(cache.folder, cache.fixed_limit)  # as another process would open it
    other.fetch(a)
    cache.fetch(b, slot="one at a time")
    cache.fetch(s3.put("small.bin", b"x"), slot="one at a time")
    cache.fetch(c, slot="one at a time")
    assert stored(cache) == {"a.bin", "small.bin", "c.bin"}


def test_a_cache_that_is_too_small_says_what_to_set(s3: S3Server, tmp_path: Path) -> None:
    cache, (a, b, c) = NodeCache(str(tmp_path / "cache"), limit=2_500_000), three(s3)
    cache.fetch(a)
    cache.fetch(b)
    with pytest.raises(StorageError, match=r"it has 0\.0 GB.*set VLRM_CACHE_GB above 0\.0, or VLRM_CACHE to a folder"):
        cache.fetch(c)
    assert stored(cache) == {"a.bin", "b.bin"}


def test_small_files_are_bounded_too(tmp_path: Path) -> None:
    cache, calls = NodeCache(str(tmp_path / "cache"), limit=100_000), []

    def read() -> bytes:
        calls.append(1)
        return b"x" * 1000

    for index in range(300):
        assert cache.read(f"s3://bucket/{index}.png", read, 1000, index) == b"x" * 1000
        if index == 299:
            cache.read("s3://bucket/299.png", read, 1000, index)
    assert len(calls) == 300
    files = [p for p in Path(cache.folder, "files").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 102_000
    cache.read("s3://bucket/299.png", read, 1000, 5)  # of another time
    assert len(calls) == 301
    for file in files:
        file.write_bytes(b"")  # as after a crash
    assert cache.read("s3://bucket/299.png", read, 1000, 299) == b"x" * 1000
    assert len(calls) == 302


def test_small_files_are_bounded_if_each_process_adds_few(tmp_path: Path) -> None:
    for index in range(600):
        process = NodeCache(str(tmp_path / "cache"), limit=100_000)
        process.read(f"s3://bucket/{index}.png", lambda: b"x" * 500, 500, index)
    files = Path(tmp_path, "cache", "files").rglob("*")
    assert 50_000 < sum(p.stat().st_size for p in files if p.is_file()) < 125_000  # half of the files make room


def test_a_cache_that_cannot_be_written_is_not_needed_for_small_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = NodeCache(str(tmp_path / "file" / "cache"))
    assert cache.read("s3://bucket/a.png", lambda: b"x", 1, 0) == b"x"
    with pytest.raises(StorageError, match=r"cannot prepare .*file is a file, not a folder"):
        cache.fetch("s3://bucket/a", {"a": "0"})


# --- settings -----------------------------------------------------------------------------------


def test_the_environment_sets_folder_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLRM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert node_cache.node_cache().folder == str(tmp_path / "vlrm-ray")
    monkeypatch.setenv("VLRM_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("VLRM_CACHE_GB", "0.5")
    cache = node_cache.node_cache()
    assert (cache.folder, cache.limit(0)) == (str(tmp_path / "mine"), 500_000_000)
    assert node_cache.node_cache() is cache
    for wrong in ("many", "-1", "0", "inf"):
        monkeypatch.setenv("VLRM_CACHE_GB", wrong)
        with pytest.raises(StorageError, match=r"VLRM_CACHE_GB='.*' is not a number of GB"):
            node_cache.node_cache()


def test_the_default_is_half_of_the_space_that_is_free_or_used_by_the_cache(tmp_path: Path) -> None:
    cache = NodeCache(str(tmp_path))
    free = cache.limit(0)
    assert free > 0
    assert abs(cache.limit(1000_000_000) - free - 500_000_000) < 0.1 * free
