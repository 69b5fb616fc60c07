"""Several engines of one role, of which the actors of some have given up or are dead for good."""

import asyncio
import logging
import types
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from tests.unit.test_engine_pool import FakeEngine, be_impatient, pool, requests, sent
from vlrm_ray.engines import EngineDied, Request
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.engine_calls import ActorDied
from vlrm_ray.pipeline.stages.engine_pool import MOST_LOSSES


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch)


def test_an_engine_that_has_given_up_ends_no_run_while_others_work(caplog: pytest.LogCaptureFixture) -> None:
    engines = [FakeEngine() for _ in range(3)]
    engines[0].gave_up = True
    used = pool(*engines)
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(sent(used, 60)) == [""] * 60
    assert used._usable() == {1, 2}
    assert len(engines[0].texts) <= 16  # what was under way until it was known
    assert caplog.messages == [
        "policy-0 gets no requests for 300 s: policy-0 on node a has no running engine: exit code -9"
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_the_run_ends_with_the_message_of_an_engine_if_all_have_given_up(count: int) -> None:
    engines = [FakeEngine() for _ in range(count)]
    for engine in engines:
        engine.gave_up = True
    with pytest.raises(EngineDied, match="has no running engine: exit code -9"):
        asyncio.run(pool(*engines).score("critique", 0, requests("a")))
    assert [engine.texts for engine in engines] == [["a"]] * count


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("told", [False, True])
def test_an_engine_whose_actor_is_dead_for_good_ends_no_run_while_others_work(told: bool) -> None:
    engines = [FakeEngine(), FakeEngine(), FakeEngine()]
    used, present = pool(*engines), dict(enumerate(engines))

    async def tell(_: str) -> dict[int, FakeEngine]:
        return present  # the directory still knows it

    if told:
        used.directory = types.SimpleNamespace(engines=types.SimpleNamespace(remote=tell))  # type: ignore[assignment]
    engines[0].die()
    assert asyncio.run(sent(used, 60)) == [""] * 60
    assert sorted(used.actors) == [1, 2]
    assert engines[0].texts == []


async def _away(_: str) -> dict[int, FakeEngine]:
    raise ActorUnavailableError("the node of the directory is lost", None)


async def _silent(_: str) -> dict[int, FakeEngine]:
    await asyncio.sleep(1000)
    return {}


async def _started_again(_: str) -> dict[int, FakeEngine]:
    return {}  # it has not been told the engines yet


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("engines_known", [_away, _silent, _started_again])
def test_the_engines_that_are_known_answer_while_the_directory_is_away(engines_known: Any) -> None:
    engines = [FakeEngine(), FakeEngine()]
    used = pool(*engines)
    used.directory = types.SimpleNamespace(engines=types.SimpleNamespace(remote=engines_known))  # type: ignore[assignment]
    assert asyncio.run(asyncio.wait_for(sent(used, 20), 60)) == [""] * 20
    assert all(engine.texts for engine in engines)


def test_the_run_ends_with_the_message_of_an_actor_if_all_are_dead() -> None:
    engines = [FakeEngine(), FakeEngine()]
    for engine in engines:
        engine.die()
    with pytest.raises(
        UserError, match=r"policy-\d died while it was asked for answers of the stage critique: .*died unexpectedly"
    ):
        asyncio.run(pool(*engines).score("critique", 0, requests("a")))


def test_an_engine_that_rests_answers_if_all_others_have_given_up() -> None:
    engines = [FakeEngine(), FakeEngine()]
    engines[0].gave_up = True
    used = pool(*engines)
    used._sick.rest(1)
    assert asyncio.run(sent(used, 4)) == [""] * 4


def test_a_request_with_which_several_actors_give_up_is_not_sent_to_all() -> None:
    engines = [FakeEngine() for _ in range(MOST_LOSSES + 3)]
    with pytest.raises(
        UserError, match=r"^4 engines of the policy were lost .*The last engine: policy-0 on node a has no"
    ):
        asyncio.run(pool(*engines).score("critique", 0, requests("hopeless")))
    assert sum(engine.gave_up for engine in engines) == MOST_LOSSES + 1


def test_the_error_of_a_dead_actor_says_which_part_it_worked_on() -> None:
    engine = FakeEngine()
    engine.die()
    asked = [Request("Describe the image.", f"s3://photos/{name}.png") for name in "ab"]
    with pytest.raises(
        ActorDied,
        match=r"policy-0 died .*run the same command again to resume\. If it dies again, look for the cause in the 2 requests "
        r"of part 7, the first of them with the image s3://photos/a\.png$",
    ):
        asyncio.run(pool(engine, reproducible=True).score("critique", 7, asked))


def test_a_reproducible_part_ends_with_its_engine() -> None:
    engines = [FakeEngine(), FakeEngine()]
    engines[0].gave_up = True
    with pytest.raises(EngineDied):
        asyncio.run(pool(*engines, reproducible=True).score("critique", 0, requests("a")))
    assert engines[1].texts == []
