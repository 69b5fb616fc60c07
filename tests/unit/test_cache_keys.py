"""The keys of cached answers, which the driver collects in few files so that actors need not read every shard."""

from pathlib import Path

import pytest

from tests.s3_server import S3Server
from vlrm_ray.errors import StorageError
from vlrm_ray.store import cache
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.cache_keys import LEAST_SHARDS, CacheKeys
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Word

WORDS = (Word("STOP", (1.0, 2.0, 3.0, 4.0), 0.9),)
SHARDS = [f"shard {index}" for index in range(LEAST_SHARDS)]
"""A key for each of as many shards as make a key file."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


def put(ledger: Ledger, keys: list[str]) -> None:
    """Store answers, each in a shard of its own."""
    answers = AnswerCache(ledger, "ocr", Word)
    for key in keys:
        answers.put({key: WORDS})


def key_files(ledger: Ledger) -> list[str]:
    return ledger.names("evidence/ocr/keys", "", ".parquet")


def reads(s3: S3Server) -> list[str]:
    """Names of the files that were read, each as often as it was."""
    names = [request.rpartition("/")[2] for request in s3.requests if request.startswith("GET")]
    return [name for name in names if name.endswith(".parquet")]


def test_a_new_process_reads_the_key_file_and_the_shard_that_it_needs(s3: S3Server) -> None:
    """The experts of a round are new actors: what each reads must not grow with the rounds before."""
    ledger = Ledger(s3.uri("runs/mine"))
    put(ledger, SHARDS)
    CacheKeys(ledger).update()
    (key_file,) = key_files(ledger)
    s3.requests.clear()
    answers = AnswerCache(ledger, "ocr", Word)
    assert answers.get([SHARDS[7], "unknown"]) == {SHARDS[7]: WORDS}
    assert set(reads(s3)) == {key_file, answers.shard_of[SHARDS[7]]}
    assert len(s3.requests) < 20


def test_a_process_reads_at_most_some_shards_that_are_in_no_key_file(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LIST_SECONDS", 0.0)
    monkeypatch.setattr(cache, "SINGLE_SHARDS", 8)
    put(ledger, SHARDS)
    answers = AnswerCache(ledger, "ocr", Word)
    for _ in range(3):
        assert len(answers.get(SHARDS)) == 8
    CacheKeys(ledger).update()
    assert len(answers.get(SHARDS)) == len(SHARDS)


def test_few_shards_make_no_file_until_there_are_more(ledger: Ledger) -> None:
    keys = CacheKeys(ledger)
    put(ledger, SHARDS[1:])
    keys.update()
    assert key_files(ledger) == []
    put(ledger, SHARDS[:1])
    keys.update()
    assert len(key_files(ledger)) == 1


def test_each_file_holds_the_shards_since_the_one_before_also_of_another_session(ledger: Ledger) -> None:
    for session in range(3):
        put(ledger, [f"{session} {key}" for key in SHARDS])
        keys = CacheKeys(ledger)
        for _ in range(2):
            keys.update()
        assert len(key_files(ledger)) == session + 1
    found = [cache.read_key_file(ledger, "evidence/ocr", name) for name in key_files(ledger)]
    assert [len(shards) for shards in found] == [len(SHARDS)] * 3
    assert len(AnswerCache(ledger, "ocr", Word).get([f"{n} {key}" for n in range(3) for key in SHARDS])) == 3 * len(
        SHARDS
    )


def test_drivers_that_share_a_cache_may_collect_the_same_shards(ledger: Ledger) -> None:
    first, second = CacheKeys(ledger), CacheKeys(ledger)
    put(ledger, SHARDS)
    first.read()
    put(ledger, ["more"])
    second.read()
    for keys in (first, second, first):
        keys.write()
    assert len(key_files(ledger)) == 2
    assert AnswerCache(ledger, "ocr", Word).get([*SHARDS, "more"]).keys() == {*SHARDS, "more"}


def test_shards_that_are_gone_and_damaged_key_files_count_as_missing(ledger: Ledger) -> None:
    put(ledger, SHARDS)
    CacheKeys(ledger).update()
    answers = AnswerCache(ledger, "ocr", Word)
    answers.get(SHARDS[:1])
    Path(ledger.path("evidence/ocr", answers.shard_of[SHARDS[3]])).unlink()
    assert AnswerCache(ledger, "ocr", Word).get(SHARDS[3:5]) == {SHARDS[4]: WORDS}
    Path(ledger.path("evidence/ocr/keys", *key_files(ledger))).write_bytes(b"garbage")
    assert AnswerCache(ledger, "ocr", Word).get(SHARDS[3:5]) == {SHARDS[4]: WORDS}


def test_a_storage_that_fails_ends_no_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(ledger, SHARDS)

    def refused(*_: object) -> None:
        raise StorageError("cannot write: no permission")

    keys = CacheKeys(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "put", refused)
        keys.update()
    assert "the keys of cached answers were not collected: cannot write: no permission" in caplog.text
    keys.update()
    assert len(key_files(ledger)) == 1
