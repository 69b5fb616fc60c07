"""Claims that the policy itself extracts: its engines share the responses of a part."""

import asyncio
import json
import types
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from vlrm_ray.config import load
from vlrm_ray.engines import Completion, LoadReport, Request, Sampling
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages import VerifyAndPair, engine_pool
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import Candidate, ImageCondition, Prompt

LLM = ("experts.extractor=llm", "experts.extractor_model=", "policy.engine.kind=vllm")
CLAIM = {"type": "object", "quote": "dog", "subject": "dog", "value": None, "object": None, "negated": False, "hedged": False}  # fmt: skip


class Policy:
    """Stands for the handle of a policy's actor: finds a dog in every text."""

    def __init__(self) -> None:
        self.requests = 0
        self.generate = types.SimpleNamespace(remote=self._generate)
        self.load_report = types.SimpleNamespace(remote=self._report)

    async def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        self.requests += len(requests)
        await asyncio.sleep(0.01)
        return [[Completion(json.dumps({"claims": [CLAIM]}))] for _ in requests]

    async def _report(self) -> LoadReport:
        return LoadReport()


class Board:
    def __init__(self) -> None:
        self.rows = Counter[str]()

    def add(self, stage: str, rows: int, seconds: float = 0.0, actor: str = "") -> None:
        self.rows[stage] += rows


def part(number: int) -> Row:
    texts = [f"Here is dog {number}-{index}." for index in range(8)]
    made = Row(number, 1, Prompt("p", "a.png", "0", "What is there?"), asked=8, width=128, height=128)
    made.candidates = tuple(Candidate(text, text, ImageCondition.FULL) for text in texts)
    return made


def stage_of(policy: Sequence[Policy], *overrides: str) -> VerifyAndPair:
    actors = StageActors(policy, (), object, object, Board())  # type: ignore[arg-type]
    return VerifyAndPair(load(None, [*LLM, *overrides]), actors)


def test_all_engines_of_the_policy_read_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_pool, "REQUESTS_PER_CALL", 1)
    policy = [Policy() for _ in range(4)]
    stage = stage_of(policy, "policy.engine.reproducible=false")
    (row,) = from_table(stage(to_table([part(0)])))
    assert [[claim.claim.subject.name for claim in c.claims] for c in row.candidates] == [["dog"]] * 8
    assert [engine.requests for engine in policy] == [2, 2, 2, 2]
    assert stage.board.rows["extract"] == 8  # type: ignore[attr-defined]


def test_several_threads_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_pool, "REQUESTS_PER_CALL", 1)
    policy = [Policy() for _ in range(2)]
    stage = stage_of(policy, "policy.engine.reproducible=false")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: from_table(stage(to_table([part(number)]))), range(4)))
    assert all(candidate.claims for rows in found for candidate in rows[0].candidates)
    assert sum(engine.requests for engine in policy) == 32


def test_a_reproducible_part_is_read_by_the_same_engine_each_time() -> None:
    counts = []
    for _ in range(2):
        policy = [Policy() for _ in range(3)]
        stage = stage_of(policy, "policy.engine.reproducible=true")
        for number in range(12):
            stage(to_table([part(number)]))
        counts.append([engine.requests for engine in policy])
    assert counts[0] == counts[1]
    assert sum(counts[0]) == 96
    assert all(counts[0])
