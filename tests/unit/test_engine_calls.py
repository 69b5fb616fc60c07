"""Calls of actors: which one gets a request, and what is said about one that does not answer."""

import asyncio
import time
import types
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from vlrm_ray.engines import EngineDied, LoadReport
from vlrm_ray.errors import UserError, user_message
from vlrm_ray.pipeline import engine_calls
from vlrm_ray.pipeline.engine_calls import ActorLost, LeastLoaded, call


def method(answer: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
    """The method of an actor's handle, for use without Ray."""
    return types.SimpleNamespace(remote=answer)


async def slow(seconds: float, result: Any = None) -> Any:
    await asyncio.sleep(seconds)
    return result


def ask(remote: Any, *arguments: Any, timeout: float = 60.0) -> Any:
    return asyncio.run(call(remote, *arguments, timeout=timeout, name="critic-1", waiting_for="a critique"))


# --- timeouts and deaths ------------------------------------------------------------------------


def test_a_call_returns_what_the_method_returns() -> None:
    assert ask(method(slow), 0.0, "answer") == "answer"


def test_a_late_actor_is_named_with_what_it_was_asked_for_and_its_call_is_cancelled() -> None:
    cancelled = []

    async def never() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(
        UserError, match=r"^critic-1: no answer within 0\.05 s while waiting for a critique; .*call_timeout"
    ):
        ask(method(never), timeout=0.05)
    assert cancelled == [True]


def test_a_timeout_inside_the_actor_is_not_taken_for_one_of_the_call() -> None:
    async def fails() -> None:
        raise TimeoutError("inside")

    with pytest.raises(TimeoutError, match="inside"):
        ask(method(fails))


def test_a_dead_actor_is_named_with_the_cause() -> None:
    async def dies() -> None:
        raise RayActorError(error_msg="The actor died because of an out-of-memory kill")

    with pytest.raises(
        UserError, match=r"^critic-1 died while it was asked for a critique: .*out-of-memory kill; .*again"
    ):
        ask(method(dies))


def test_an_actor_that_may_come_back_is_told_apart() -> None:
    async def is_lost() -> None:
        raise ActorUnavailableError("socket closed", None)

    with pytest.raises(ActorLost, match=r"^critic-1 died while it was asked for a critique: .*socket closed"):
        ask(method(is_lost))


def test_the_timeout_starts_anew_while_the_actor_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_calls, "CHECK_SECONDS", 0.01)
    end = time.monotonic() + 0.3

    def progress() -> float:
        return min(time.monotonic(), end)

    with pytest.raises(UserError, match=r"no answer within 0\.1 s"):
        asyncio.run(call(method(slow), 60.0, timeout=0.1, name="critic-1", waiting_for="x", progress=progress))
    assert 0.35 < time.monotonic() - end + 0.3 < 5


def test_a_call_that_is_given_up_while_it_waits_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_calls, "CHECK_SECONDS", 0.01)

    def progress() -> float:
        raise KeyError("given up")

    with pytest.raises(KeyError, match="given up"):
        asyncio.run(call(method(slow), 60.0, timeout=60, name="critic-1", waiting_for="x", progress=progress))


def test_a_dead_engine_is_one_line_for_the_user() -> None:
    async def fails() -> None:
        raise EngineDied("critic-1 on node a has no running engine: exit code -9")

    with pytest.raises(EngineDied) as raised:
        ask(method(fails))
    assert user_message(raised.value) == "critic-1 on node a has no running engine: exit code -9"


def test_messages_name_at_most_four_actors() -> None:
    error = engine_calls.too_late([f"critic-{i}" for i in range(9)], "a load", 300, "cluster.start_timeout")
    assert str(error).startswith("critic-0, critic-1, critic-2, critic-3 and 5 more: no answer within 300 s")
    assert str(error).endswith("raise cluster.start_timeout")


def test_a_start_that_is_late_is_told_with_what_is_free_in_the_cluster() -> None:
    """Actors wait in silence for the CPUs and GPUs that other work holds. Ray leaves out resources of which nothing is free."""
    error = engine_calls.too_late(["critic-0"], "the start of its engine", 300, "cluster.start_timeout", {"CPU": 3.5})
    assert "waiting for the start of its engine (free in the whole cluster: 3.5 CPU, 0 GPU); look at" in str(error)


# --- the least loaded actor ---------------------------------------------------------------------


def test_equally_loaded_actors_take_turns() -> None:
    actors, picked = LeastLoaded(3), []
    for _ in range(6):
        with actors.pick() as index:
            picked.append(index)
    assert picked == [0, 1, 2, 0, 1, 2]
    assert actors.in_flight == [0, 0, 0]


def test_the_actor_with_the_fewest_unfinished_sequences_is_picked() -> None:
    actors = LeastLoaded(2)
    with actors.pick(4) as first:
        for _ in range(3):
            with actors.pick(1) as other:
                assert (first, other) == (0, 1)


def test_sequences_count_until_they_are_answered_or_fail() -> None:
    actors = LeastLoaded(2)
    with pytest.raises(ValueError), actors.pick(4):
        assert sum(actors.in_flight) == 4
        raise ValueError
    assert actors.in_flight == [0, 0]


def test_what_other_processes_have_sent_counts_too() -> None:
    async def go() -> list[int]:
        actors, picked = LeastLoaded(2), []
        reports = [
            method(lambda: slow(0, LoadReport(running=6, waiting=2))),
            method(lambda: slow(0, LoadReport(running=1))),
        ]
        with actors.pick(1) as own:
            assert own == 0
            actors.update(dict(enumerate(reports)))
            await asyncio.sleep(0.05)
            assert actors.of_others == [7, 1]  # one of the eight sequences is our own
            actors.update({i: method(lambda: slow(0, LoadReport())) for i in range(2)})  # too early to ask again
            await asyncio.sleep(0.05)
            assert actors.of_others == [7, 1]
            for _ in range(3):
                with actors.pick(1) as index:
                    picked.append(index)
        return picked

    assert asyncio.run(go()) == [1, 1, 1]


def test_sequences_that_are_finished_in_an_unfinished_call_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        actors = LeastLoaded(1)
        with actors.pick(64):
            actors.update({0: method(lambda: slow(0, LoadReport(running=3)))})
            await asyncio.sleep(0.01)
            assert actors.load(0) == 3
            with actors.pick(8):
                assert actors.load(0) == 11
        assert actors.load(0) == 0  # and not below

    asyncio.run(go())


def test_an_engine_that_does_not_report_is_away_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_calls, "REPORT_SECONDS", 0.0)
    back = asyncio.Event()

    async def held() -> LoadReport:
        await back.wait()
        return LoadReport(running=3)

    async def go() -> None:
        actors = LeastLoaded(3)
        reports = {0: method(lambda: slow(0, LoadReport())), 1: method(held), 2: method(held)}
        actors.lose(2)
        actors.update(reports)
        await asyncio.sleep(0.05)
        assert actors.away(60.0) == {2}
        assert actors.away(0.04) == {1, 2}
        back.set()
        await asyncio.sleep(0.01)
        assert actors.away(0.04) == set()
        assert actors.of_others == [0, 3, 3]

    asyncio.run(go())


def test_an_engine_that_reports_that_it_does_not_run_is_stopped_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_calls, "REPORT_SECONDS", 0.0)

    async def stopped(actors: LeastLoaded, **reported: Any) -> set[int]:
        actors.update({0: method(lambda: slow(0, LoadReport(**reported)))})
        await asyncio.sleep(0.01)
        return actors.stopped

    async def go() -> None:
        actors = LeastLoaded(1)
        assert await stopped(actors, waiting=12, runs=False) == {0}
        assert actors.load(0) == 12  # what waits for it counts all the same
        assert await stopped(actors) == set()
        actors.stop(0)
        assert await stopped(actors) == set()

    asyncio.run(go())


def test_a_dead_engine_is_not_away_so_that_its_calls_tell() -> None:
    async def dead() -> LoadReport:
        raise ActorDiedError

    async def go() -> None:
        actors = LeastLoaded(1)
        actors.lose(0)
        actors.update({0: method(dead)})
        await asyncio.sleep(0.01)
        assert actors.away(0.0) == set()

    asyncio.run(go())
