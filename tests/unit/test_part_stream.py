"""A stream of parts that ends with an error removes what the error makes worthless, and nothing else."""

import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vlrm_ray.config import Config, load
from vlrm_ray.engines import REFUSED
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import part_stream, prompts
from vlrm_ray.pipeline.part_stream import PartStream
from vlrm_ray.pipeline.stages import Commit, CommitCandidates
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.cache_keys import LEAST_SHARDS
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts
from vlrm_ray.store.rows import Row, to_table
from vlrm_ray.types import Prompt, PromptRef

ROUND, PART_ROWS = 2, 20
REFUSED_ALL, MISSING, FINE = [f"{REFUSED}: no memory"] * PART_ROWS, ["image_missing"] * PART_ROWS, [""] * PART_ROWS


def rows(part: int, problems: Sequence[str]) -> list[Row]:
    names = [f"{part}-{index}" for index in range(len(problems))]
    return [
        Row(part, ROUND, Prompt(name, name, "", "Why?"), problem, len(problems))
        for name, problem in zip(names, problems, strict=True)
    ]


def commit(ledger: Ledger, part: int, problems: Sequence[str]) -> pa.Table:
    return Commit(Config(), ledger)(to_table(rows(part, problems)))


def graph(ledger: Ledger, problems: dict[int, Sequence[str]], on_the_way: Sequence[int] = ()) -> Callable[..., Any]:
    """Replaces `build_graph`: commits parts with these problems, and some more while it ends."""

    def batches(**_: object) -> Iterator[pa.Table]:
        try:
            for part, found in problems.items():
                yield commit(ledger, part, found)
        finally:
            for part in on_the_way:
                commit(ledger, part, problems[0])

    return lambda *_: types.SimpleNamespace(iter_batches=batches)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    refs = [PromptRef(f"{i}.png", "Why?") for i in range(4 * PART_ROWS)]
    monkeypatch.setattr(prompts, "prompts_of_round", lambda *_: refs)
    return Ledger(str(tmp_path))


def stream(ledger: Ledger, *overrides: str) -> PartStream:
    config = load(None, [f"part_rows={PART_ROWS}", "critic.writer=newest", "cluster.overlap=1", *overrides])
    return PartStream(config, ledger, ledger, lambda: None)  # type: ignore[arg-type,return-value]


def gather(ledger: Ledger) -> None:
    made = stream(ledger)
    made.gather(ROUND, made.todo(ROUND)[0], lambda _: None)


def test_the_keys_of_the_answers_that_a_graph_caches_are_one_file_when_it_has_ended(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = AnswerCache(ledger, "ocr", str)

    def batches(**_: object) -> Iterator[pa.Table]:
        for index in range(LEAST_SHARDS):
            answers.put({str(index): ("STOP",)})
        yield commit(ledger, 0, FINE)

    monkeypatch.setattr(part_stream, "build_graph", lambda *_: types.SimpleNamespace(iter_batches=batches))
    gather(ledger)
    assert len(ledger.names("evidence/ocr/keys", "", ".parquet")) == 1


def test_an_engine_that_refuses_everything_leaves_nothing_of_the_round(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_stream, "build_graph", graph(ledger, {0: REFUSED_ALL}, on_the_way=[1]))
    with pytest.raises(UserError, match="refused all of the first 20 prompts"):
        gather(ledger)
    assert ledger.parts(ROUND) == []


def test_prepared_parts_survive_an_engine_that_refuses_everything_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = PreparedParts(ledger, ROUND)
    columns = ("part", "part_rows", "round", "prompt", "quarantined", "asked", "candidates")
    for part in (1, 2, 3):
        CommitCandidates(prepared)(to_table(rows(part, FINE), columns))
    monkeypatch.setattr(part_stream, "build_graph", graph(ledger, {0: REFUSED_ALL, 1: FINE}))
    with pytest.raises(UserError, match="20 of 80 prompts are quarantined"):
        gather(ledger)
    assert sorted(stream(ledger).todo(ROUND)[0]) == [0, 1, 2, 3]
    assert prepared.numbers() == [1, 2, 3]


def test_parts_above_the_quarantine_limit_are_made_again_unless_it_is_raised(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(ledger, 3, FINE)
    problems = {0: MISSING, 1: FINE, 2: MISSING}
    monkeypatch.setattr(part_stream, "build_graph", graph(ledger, problems, on_the_way=[2]))
    with pytest.raises(UserError, match="20 of 60 prompts are quarantined"):
        gather(ledger)
    assert ledger.parts(ROUND) == [0, 1, 2, 3]
    assert sorted(stream(ledger, "quarantine_limit=0.5").todo(ROUND)[0]) == []
    assert sorted(stream(ledger).todo(ROUND)[0]) == [0, 2]
    assert ledger.parts(ROUND) == [1, 3]
