"""What an engine reports about its work: sequences, tokens and the time in which it had any."""

import asyncio
from dataclasses import replace

import pytest

from actors import load_counter
from actors.continuous_engine import ContinuousEngine
from actors.load_counter import LoadCounter
from actors.serial_engine import SerialEngine
from tests.unit.test_async_engines import FakeAsyncLLM
from tests.unit.test_refused_requests import PickyEngine
from vlrm_ray.engines import Completion, LoadReport, Request, Sampling


class Clock:
    now = 50.0

    def monotonic(self) -> float:
        return self.now


def test_busy_time_is_that_with_any_sequence_running(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(load_counter, "time", clock)
    counter = LoadCounter()

    def after(seconds: float, running: int) -> float:
        clock.now += seconds
        counter.count(running=running)
        return counter.report().busy_seconds

    assert after(5, 2) == 0  # nothing ran before
    assert after(3, 1) == 3
    assert after(1, -3) == 4
    assert after(10, 1) == 4
    clock.now += 2
    assert counter.report().busy_seconds == 6  # it still runs


def test_reports_of_the_same_load_are_equal() -> None:
    assert LoadReport(1, 2, 3, tokens=4, busy_seconds=5.0) == LoadReport(1, 2, 3)


class Counting(PickyEngine):
    """An engine whose answers have seven tokens."""

    def generate(self, requests: list[Request], sampling: Sampling) -> list[list[Completion]]:  # type: ignore[override]
        return [[replace(a, tokens=7) for a in group] for group in super().generate(requests, sampling)]


class CountingLLM(FakeAsyncLLM):
    """The same for requests of many calls."""

    async def generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        return [replace(answer, tokens=7) for answer in await super().generate(request, sampling)]


@pytest.mark.parametrize("engine", [SerialEngine(Counting), ContinuousEngine(CountingLLM(), 8)])
def test_tokens_of_answers_are_counted_and_refused_requests_have_none(engine: SerialEngine | ContinuousEngine) -> None:
    asyncio.run(engine.generate([Request("a", None), Request("LONG", None)], Sampling(8, n=2)))
    assert engine.load_report().tokens == 14
    assert engine.load_report().finished == 4
