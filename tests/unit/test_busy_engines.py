"""Pools of engines that have more requests than they can work on, and calls of engines that finish nothing."""

import asyncio
import pickle
import types

import pytest

from tests.unit.test_engine_pool import FakeEngine, be_impatient, pool, requests, sent, soon
from vlrm_ray.config_sections import Engine
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.engine_calls import EngineLate
from vlrm_ray.pipeline.stages.engine_pool import QUEUE, REQUESTS_PER_CALL, EnginePool


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("reproducible", [False, True])
def test_a_call_may_wait_longer_than_the_timeout_while_its_engine_answers_others(reproducible: bool) -> None:
    async def go() -> None:
        engine = FakeEngine(3.0)
        used = pool(engine, timeout=2.0, reproducible=reproducible)
        answers = asyncio.ensure_future(used.score("critique", 0, requests("a")))
        while not answers.done():
            engine.finished += 1  # of other calls
            await asyncio.sleep(0.05)
        assert [answer.refused for answer in answers.result()] == [""]

    asyncio.run(go())


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("reproducible", [False, True])
def test_an_engine_that_finishes_nothing_fails_its_calls(reproducible: bool) -> None:
    with pytest.raises(UserError, match=r"policy-0: no answer within 0\.3 s"):
        asyncio.run(pool(FakeEngine(60.0), timeout=0.3, reproducible=reproducible).score("x", 0, requests("a")))


@pytest.mark.usefixtures("_impatient")
def test_an_engine_that_hangs_ends_no_run_while_others_work() -> None:
    engines = [FakeEngine(60.0), FakeEngine(0.01), FakeEngine(0.01)]
    used = pool(*engines, timeout=2.0)

    async def go() -> None:
        assert await sent(used, 60) == [""] * 60
        assert len(engines[0].texts) <= 16  # what was under way until it was known
        assert used._usable() == {1, 2}

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.usefixtures("_impatient")
def test_the_run_ends_if_all_engines_hang() -> None:
    with pytest.raises(EngineLate, match=r"policy-\d: no answer within 0\.3 s"):
        asyncio.run(pool(FakeEngine(60.0), FakeEngine(60.0), timeout=0.3).score("x", 0, requests("a")))


@pytest.mark.usefixtures("_impatient")
def test_requests_are_held_back_while_engines_have_enough_and_all_are_answered() -> None:
    engines = [FakeEngine(0.01) for _ in range(2)]
    used = pool(*engines, max_num_seqs=4)
    answers = asyncio.run(used.score("critique", 0, requests(*map(str, range(400)))))
    assert [answer.refused for answer in answers] == [""] * 400
    limit = QUEUE * 4
    # about the limit: a report may miss what is on its way
    assert all(limit <= engine.most <= 2 * limit + REQUESTS_PER_CALL for engine in engines)


@pytest.mark.usefixtures("_impatient")
def test_an_engine_that_starts_later_gets_what_was_held_back() -> None:
    first, second = FakeEngine(0.02), FakeEngine(0.02)

    class Directory:
        def __init__(self) -> None:
            self.present = {0: first}
            self.engines = types.SimpleNamespace(remote=self._engines)

        async def _engines(self, role: str) -> dict[int, FakeEngine]:
            return self.present

    async def go() -> None:
        used, directory = pool(first, actors=1, max_actors=2, max_num_seqs=4), Directory()
        used.directory = directory  # type: ignore[assignment]
        answers = asyncio.ensure_future(used.score("critique", 0, requests(*map(str, range(400)))))
        await soon(lambda: len(first.texts) > 40)
        directory.present[1] = second
        await answers

    asyncio.run(go())
    assert len(second.texts) > 100


def test_as_many_sequences_are_sent_as_all_engines_could_work_on_so_that_they_are_started() -> None:
    async def go() -> int:
        engine = FakeEngine(60.0)
        answers = asyncio.ensure_future(
            pool(engine, actors=1, max_actors=10, max_num_seqs=8).score("x", 0, requests(*map(str, range(400))))
        )
        await soon(lambda: engine.most >= 80)
        await asyncio.sleep(0.1)  # it may not be sent more
        answers.cancel()
        return engine.most

    assert asyncio.run(go()) == 80


def test_a_pool_can_be_sent_to_the_actors_of_a_stage() -> None:
    used = pickle.loads(pickle.dumps(EnginePool("policy", {}, None, engine=Engine(), timeout=1.0)))  # type: ignore[arg-type]
    assert used.engine == Engine()
