"""The search for requests on which an engine's process ends: how long it takes, what it costs, and who sees it."""

import asyncio
import random
from pathlib import Path

import pytest

from actors.continuous_engine import ContinuousEngine
from actors.engine_hosts import ENGINE_RESTARTS, EngineHost
from actors.examination import MORE_DEATHS, MOST_SEARCHES, Examination
from actors.serial_engine import AsyncEngine
from actors.suspects import Refusals, Suspect
from tests.unit.test_suspects import SAMPLING, SETTINGS, Backend, answers, expected, requests, start_backends
from vlrm_ray.engines import ENDED, EngineDied, Request
from vlrm_ray.store.ledger import Ledger


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[Backend]:
    """The backends that actors have started."""
    return start_backends(monkeypatch)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 33, 512])
def test_a_search_takes_one_restart_for_each_halving(count: int) -> None:
    starts: list[AsyncEngine] = []

    def start() -> AsyncEngine:
        starts.append(ContinuousEngine(Backend(), 1024))
        return starts[-1]

    examination = Examination(start, Refusals("policy-0", SETTINGS, None))
    suspects = [Suspect(request, SAMPLING) for request in requests(count, count // 2)]
    engine = asyncio.run(examination.run(suspects))
    assert engine is starts[-1]
    assert examination.found == 1
    assert examination.explained == (count > 1)
    assert len(starts) <= 1 + max(1, (count - 1).bit_length())


@pytest.mark.parametrize("first", [0, 30, 60, 120])
def test_an_image_that_ends_the_engine_with_several_requests_costs_only_these(first: int) -> None:
    """The requests of an image follow one another; most groups are free of them."""
    suspects = [Suspect(request, SAMPLING) for request in requests(128, *range(first, first + 8))]
    refusals = Refusals("policy-0", SETTINGS, None)
    examination = Examination(lambda: ContinuousEngine(Backend(), 1024), refusals)
    asyncio.run(examination.run(suspects))
    assert [i for i in range(128) if suspects[i].request in refusals] == list(range(first, first + 8))
    assert examination.explained


def test_an_engine_that_ends_at_random_is_given_up_before_it_refuses_many(ledger: Ledger) -> None:
    chance = random.Random(0)

    class Unreliable(Backend):
        async def _work(self, request: Request) -> None:
            self.dies = self.dies or chance.random() < 0.3
            await super()._work(request)

    examination = Examination(lambda: ContinuousEngine(Unreliable(), 1024), Refusals("policy-0", SETTINGS, ledger))
    with pytest.raises(EngineDied, match="to find the requests that cause it"):
        asyncio.run(examination.run([Suspect(request, SAMPLING) for request in requests(512)]))
    assert examination.found <= 4 * MOST_SEARCHES


@pytest.mark.parametrize("count", [1, 2, 3, 8, 33])
def test_requests_that_all_end_the_engine_are_named_if_it_answered_others_before(
    count: int, backends: list[Backend], ledger: Ledger
) -> None:
    async def go() -> None:
        host, fine, deadly = EngineHost("policy-0", SETTINGS, ledger), requests(4), requests(count, *range(count))
        assert await answers(host, fine) == expected(fine)
        for request in deadly[:ENGINE_RESTARTS]:
            assert await answers(host, [request]) == [ENDED]  # a search that finds one costs none of the restarts
        assert await answers(host, deadly) == [ENDED] * count
        assert await answers(host, fine) == expected(fine)

    asyncio.run(go())
    assert len(backends) <= 2 * count + 2 * ENGINE_RESTARTS
    assert len(ledger.names("refused", "", ".json")) == count


def test_a_search_among_many_that_all_end_the_engine_stops_and_says_what_it_found(ledger: Ledger) -> None:
    refusals, control = Refusals("policy-0", SETTINGS, ledger), Suspect(Request("fine", None), SAMPLING)
    examination = Examination(lambda: ContinuousEngine(Backend(), 1024), refusals, control)
    suspects = [Suspect(request, SAMPLING) for request in requests(256, *range(256))]
    with pytest.raises(EngineDied, match=r"it ended on \d+ requests alone.* with the image \d+\.png"):
        asyncio.run(examination.run(suspects))
    assert examination.found >= MOST_SEARCHES
    assert examination.found == sum(suspect.request in refusals for suspect in suspects)
    assert examination.steps <= 2 * (MORE_DEATHS + 9 * (2 + MOST_SEARCHES))  # a start and a run for each death


@pytest.mark.parametrize("count", [1, 64])
def test_an_engine_that_ends_on_what_it_answered_before_is_at_fault_and_refuses_nothing(
    count: int, ledger: Ledger
) -> None:
    starts: list[AsyncEngine] = []

    def start() -> AsyncEngine:
        starts.append(ContinuousEngine(Backend(sick=True), 1024))
        return starts[-1]

    refusals, control = Refusals("policy-0", SETTINGS, ledger), Suspect(Request("fine", "a.png"))
    examination = Examination(start, refusals, control)
    with pytest.raises(EngineDied, match=r"also on a request that it had answered before: the image a\.png"):
        asyncio.run(examination.run([Suspect(request, SAMPLING) for request in requests(count)]))
    assert len(starts) <= 3
    assert ledger.names("refused", "", ".json") == []


def test_a_search_without_any_answer_says_on_how_few_requests_the_engine_ends() -> None:
    examination = Examination(lambda: ContinuousEngine(Backend(), 1024), Refusals("policy-0", SETTINGS, None))
    with pytest.raises(EngineDied, match=r"ended on every group of them, down to 8, .* with the image \d+\.png"):
        asyncio.run(examination.run([Suspect(request, SAMPLING) for request in requests(64, *range(64))]))
    assert examination.found == 0


def test_a_search_learns_from_those_of_other_actors(backends: list[Backend], ledger: Ledger) -> None:
    async def go() -> None:
        first, second = (EngineHost(f"policy-{i}", SETTINGS, ledger) for i in range(2))
        asked = requests(8, 3)
        assert await answers(first, asked) == expected(asked)
        started = len(backends)
        assert await answers(second, asked) == expected(asked)
        assert len(backends) == started + 1

    asyncio.run(go())


def test_a_search_is_seen_to_go_on(backends: list[Backend]) -> None:
    """Otherwise calls that wait for it longer than their timeout would count as late."""

    async def go() -> list[int]:
        host = EngineHost("policy-0", SETTINGS)
        waiting, seen = asyncio.ensure_future(answers(host, requests(64, 7))), [0]
        while not waiting.done():
            report = await host.load_report()
            if not report.runs and report.finished != seen[-1]:
                seen.append(report.finished)
            await asyncio.sleep(0)
        return seen

    seen = asyncio.run(go())
    assert len(seen) > 6 and seen == sorted(seen)
