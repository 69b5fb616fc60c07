"""The cache of experts' and models' answers: looked up by content, stored in shards, shared between processes."""

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlrm_ray.store import cache
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Detection, Detections, Quality, Shade, Word

WORDS = (Word("STOP", (1.0, 2.0, 3.0, 4.0), 0.9),)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


def compute(asked: list[list[int]], answer: tuple[Word, ...] = WORDS) -> object:
    """A function that records the positions it is asked for."""

    def answer_all(positions: list[int]) -> list[tuple[Word, ...]]:
        asked.append(positions)
        return [answer] * len(positions)

    return answer_all


def test_an_answer_is_computed_once(ledger: Ledger) -> None:
    asked: list[list[int]] = []
    answers = AnswerCache(ledger, "ocr", Word)
    assert answers.get_or_compute(["a", "b", "a"], compute(asked)) == [WORDS] * 3  # type: ignore[arg-type]
    assert answers.get_or_compute(["b", "c"], compute(asked)) == [WORDS] * 2  # type: ignore[arg-type]
    assert asked == [[0, 1], [1]]
    assert (answers.lookups, answers.hits) == (5, 2)


def test_another_process_finds_it_and_reads_only_the_shards_it_needs(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LIST_SECONDS", 0.0)
    first, second = (AnswerCache(ledger, "ocr", Word) for _ in range(2))
    second.get(["a"])
    first.put({"a": WORDS, "b": ()})
    first.put({"c": WORDS})
    assert second.get(["a", "b", "x"]) == {"a": WORDS, "b": ()}
    assert len(second.shards) == 1
    assert AnswerCache(ledger, "detector", Word).get(["a"]) == {}


def test_new_images_list_the_shards_now_and_then(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, names = [], Ledger.names
    monkeypatch.setattr(Ledger, "names", lambda *asked: (listed.append(asked[1]), names(*asked))[1])
    answers = AnswerCache(ledger, "ocr", Word)
    for key in "abc":
        answers.get_or_compute([key], compute([]))  # type: ignore[arg-type]
    assert listed == ["evidence/ocr/keys", "evidence/ocr"]


def test_many_shards_are_read_at_the_same_time_and_each_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run whose parts are others than those of the run before; more shards than are kept in memory."""
    monkeypatch.setattr(cache, "SHARDS_IN_MEMORY", 4)
    writer, reader = AnswerCache(ledger, "ocr", Word), AnswerCache(ledger, "ocr", Word)
    keys = [f"{shard} {answer}" for answer in range(2) for shard in range(2 * cache.READERS)]
    for shard in range(2 * cache.READERS):
        writer.put({f"{shard} {answer}": WORDS for answer in range(2)})
    assert reader.get(["none"]) == {}
    read, all_read_at_once, read_table = [], threading.Barrier(cache.READERS), Ledger.read_table

    def read_with_others(ledger: Ledger, name: str, columns: list[str] | None = None) -> pa.Table | None:
        read.append(name)
        all_read_at_once.wait(60)
        return read_table(ledger, name, columns)

    monkeypatch.setattr(Ledger, "read_table", read_with_others)
    assert list(reader.get(keys).items()) == [(key, WORDS) for key in keys]
    assert len(read) == len(set(read)) == 2 * cache.READERS
    assert len(reader.shards) == 4


def test_the_answers_of_a_call_are_one_file(ledger: Ledger) -> None:
    AnswerCache(ledger, "ocr", Word).get_or_compute([str(i) for i in range(40)], compute([]))  # type: ignore[arg-type]
    assert len(ledger.names("evidence/ocr", "shard-", ".parquet")) == 1


def shard(ledger: Ledger, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Write a shard as dicts, without the codecs of `arrow_types`."""
    folder = Path(ledger.path("evidence/old"))
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"key": list(answers), "answer": list(answers.values())}), folder / "shard-0.parquet")


def test_shards_of_older_versions_are_read(ledger: Ledger) -> None:
    """Those that were written by another converter, without the fields that came later, with some that are gone."""
    dog = Detection("dog", (1.0, 2.0, 3.5, 4.0), 0.9, "red", "cat", (Shade(50.0, 1.0, 2.0, 0.6),))
    seen = Detections(64, 48, (dog, dog), (dog,), Quality(0.1, 0.2))
    older = asdict(seen)
    for record in (*older["objects"], *older["faint"]):
        record["track"] = 7
        del record["rival"]
    shard(ledger, {"a": [older], "b": []})
    plain = replace(dog, rival="")
    assert AnswerCache(ledger, "old", Detections).get(["a", "b"]) == {
        "a": (replace(seen, objects=(plain, plain), faint=(plain,)),),
        "b": (),
    }


def test_a_shard_of_another_type_is_refused(ledger: Ledger) -> None:
    shard(ledger, {"a": [{"text": "STOP"}]})
    with pytest.raises(TypeError, match="box"):
        AnswerCache(ledger, "old", Word).get(["a"])


def test_an_answer_may_be_left_out(ledger: Ledger) -> None:
    asked: list[list[int]] = []
    answers = AnswerCache(ledger, "ocr", Word)
    for _ in range(2):
        answers.get_or_compute(["a"], compute(asked, ()), store=bool)  # type: ignore[arg-type]
    assert asked == [[0], [0]]


def test_a_damaged_or_deleted_shard_counts_as_missing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SHARDS_IN_MEMORY", 0)
    answers = AnswerCache(ledger, "ocr", Word)
    answers.put({"a": WORDS})
    answers.put({"b": WORDS})
    (damaged, deleted) = (Path(ledger.path("evidence/ocr", answers.shard_of[key])) for key in "ab")
    damaged.write_bytes(b"garbage")
    deleted.unlink()
    asked: list[list[int]] = []
    assert answers.get_or_compute(["a", "b"], compute(asked)) == [WORDS] * 2  # type: ignore[arg-type]
    assert asked == [[0, 1]]
    assert AnswerCache(ledger, "ocr", Word).get(["a", "b"]) == {"a": WORDS, "b": WORDS}


def test_memory_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SHARDS_IN_MEMORY", 2)
    answers = AnswerCache(ledger, "ocr", Word)
    for index in range(5):
        answers.put({str(index): WORDS})
    assert len(answers.shards) == 2
    assert answers.get([str(i) for i in range(5)]) == {str(i): WORDS for i in range(5)}
    assert len(answers.shards) == 2
