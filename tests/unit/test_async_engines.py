"""Engines that many calls use at the same time, and those for one call at a time; refused and cancelled requests."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from actors import continuous_engine
from actors.continuous_engine import AHEAD, ContinuousEngine, Places, unless_ended
from actors.serial_engine import AsyncEngine, SerialEngine
from tests.unit.test_refused_requests import PickyEngine
from vlrm_ray.engines import TOO_LONG, Completion, EngineDied, LoadReport, Request, Sampling


class FakeAsyncLLM:
    """A backend that answers after some seconds, whose requests may have certain words.

    Attributes:
        busy: number of sequences that it works on.
        most: largest number of them at a time.
        log: what happened, in order.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.busy, self.most, self.dead = seconds, 0, 0, False
        self.log: list[str] = []

    async def generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        await self._work(request, sampling.n)
        return [Completion(f"{request.text} {index}") for index in range(sampling.n)]

    async def score(self, request: Request) -> Completion:
        await self._work(request, 1)
        return Completion("", 0.2, 0.7)

    async def load(self, folder: str) -> None:
        self.log.append(f"load with {self.busy} running")

    async def close(self) -> None:
        self.log.append("close")

    async def _work(self, request: Request, sequences: int) -> None:
        if "LONG" in request.text:
            raise ValueError("longer than the maximum model length")
        if "DEADLY" in request.text or self.dead:
            self.dead = True
            raise EngineDied("exit code -9")
        self.busy += sequences
        self.most = max(self.most, self.busy)
        self.log.append(request.text)
        try:
            await asyncio.sleep(5 * self.seconds if "SLOW" in request.text else self.seconds)
            if self.dead:
                raise EngineDied("exit code -9")
        finally:
            self.busy -= sequences


def requests(*texts: str) -> list[Request]:
    return [Request(text, None) for text in texts]


async def texts_of(engine: AsyncEngine, *texts: str, n: int = 1) -> list[str]:
    answers = await engine.generate(requests(*texts), Sampling(8, n=n))
    return [answer.refused or answer.text for group in answers for answer in group]


# --- many calls at a time -----------------------------------------------------------------------


def test_calls_share_the_engine_and_a_slow_request_delays_no_other() -> None:
    backend = FakeAsyncLLM(0.05)
    engine = ContinuousEngine(backend, 16)

    async def go() -> list[str]:
        finished = []

        async def one(text: str) -> None:
            await texts_of(engine, text)
            finished.append(text)

        await asyncio.gather(one("SLOW"), *(one(str(i)) for i in range(6)))
        return finished

    assert asyncio.run(go())[-1] == "SLOW"
    assert backend.most == 7


def test_a_refused_request_does_not_disturb_the_others() -> None:
    engine = ContinuousEngine(FakeAsyncLLM(), 16)
    assert asyncio.run(texts_of(engine, "a", "LONG", "b", n=2)) == ["a 0", "a 1", TOO_LONG, TOO_LONG, "b 0", "b 1"]
    scores = asyncio.run(engine.score(requests("a", "LONG")))
    assert [score.refused for score in scores] == ["", TOO_LONG]


def test_no_more_is_sent_ahead_than_keeps_the_engine_busy() -> None:
    backend = FakeAsyncLLM(0.01)
    engine = ContinuousEngine(backend, 4)

    async def go() -> tuple[LoadReport, LoadReport]:
        work = asyncio.create_task(texts_of(engine, *(str(i) for i in range(10)), n=3))
        await asyncio.sleep(0.005)
        during = engine.load_report()
        await work
        return during, engine.load_report()

    during, after = asyncio.run(go())
    assert backend.most == 6  # of 8 places; the next request needs 3. The engine works on four of them
    assert (during, after) == (LoadReport(running=4, waiting=26), LoadReport(finished=30))
    assert during.unfinished == 30


def test_a_request_for_more_sequences_than_places_is_answered() -> None:
    engine = ContinuousEngine(FakeAsyncLLM(), 1)
    assert len(asyncio.run(texts_of(engine, "a", "b", n=5))) == 10


def test_weights_are_replaced_between_requests_not_during_them() -> None:
    backend = FakeAsyncLLM(0.02)
    engine = ContinuousEngine(backend, 16)

    async def go() -> None:
        before = asyncio.create_task(texts_of(engine, "before"))
        await asyncio.sleep(0.005)
        load = asyncio.create_task(engine.load("folder"))
        await asyncio.sleep(0.005)
        await asyncio.gather(before, load, texts_of(engine, "after"))

    asyncio.run(go())
    assert backend.log == ["before", "load with 0 running", "after"]


def test_critiques_without_a_judgement_are_asked_for_it() -> None:
    engine = ContinuousEngine(FakeAsyncLLM(), 16)
    ((*judged,),) = asyncio.run(engine.generate(requests("Check: a"), Sampling(8, n=2, judgement="ask")))
    assert [answer.text for answer in judged] == ["Check: a 0. Judgement: No", "Check: a 1. Judgement: No"]
    assert all(answer.asked and answer.no == 0.7 for answer in judged)


def test_a_cancelled_call_gives_its_places_back() -> None:
    places = Places(AHEAD)

    async def go() -> None:
        async with places.taken(1):
            waiting = asyncio.create_task(places.taken(2).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(1), places.taken(2):
            pass

    asyncio.run(go())
    assert places.load.report() == LoadReport(finished=3)


# --- one call at a time -------------------------------------------------------------------------


class Sequential(PickyEngine):
    """An engine that notices calls which overlap, and from which threads they come.

    Attributes:
        begun: set once a call has begun.
        may_end: calls end when it is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()
        self.lock, self.begun, self.may_end = threading.Lock(), threading.Event(), threading.Event()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        assert self.lock.acquire(blocking=False)
        self.threads.add(threading.current_thread().name)
        try:
            self.begun.set()
            assert self.may_end.wait(60)
            return super().generate(requests, sampling)
        finally:
            self.lock.release()


def test_a_reproducible_engine_gets_each_call_as_one_batch_in_order() -> None:
    engine = Sequential()
    serial = SerialEngine(lambda: engine)

    async def go() -> LoadReport:
        calls = [asyncio.create_task(texts_of(serial, f"{i}a", f"{i}b")) for i in range(5)]
        assert await asyncio.to_thread(engine.begun.wait, 60)
        during = serial.load_report()
        engine.may_end.set()
        await asyncio.gather(*calls)
        return during

    assert asyncio.run(go()) == LoadReport(running=2, waiting=8)
    assert engine.calls == [[f"{i}a", f"{i}b"] for i in range(5)]
    assert len(engine.threads) == 1
    assert serial.load_report() == LoadReport(finished=10)


def test_a_cancelled_call_that_has_not_begun_is_forgotten() -> None:
    engine = Sequential()
    serial = SerialEngine(lambda: engine)

    async def go() -> None:
        first, second = (asyncio.create_task(texts_of(serial, text)) for text in "ab")
        assert await asyncio.to_thread(engine.begun.wait, 60)
        second.cancel()
        await asyncio.sleep(0.01)  # until its place in the thread's queue is given up
        engine.may_end.set()
        await first

    asyncio.run(go())
    assert engine.calls == [["a"]]
    assert serial.load_report() == LoadReport(finished=1)


def test_work_of_a_process_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous_engine, "CHECK_SECONDS", 0.01)
    cancelled = []

    async def never_answered() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def answered() -> int:
        await asyncio.sleep(0.05)
        return 7

    async def go() -> None:
        with pytest.raises(EngineDied, match="the engine's process has ended"):
            await unless_ended(never_answered(), lambda: True)
        await asyncio.sleep(0)
        assert cancelled == [True]
        assert await unless_ended(answered(), lambda: False) == 7

    asyncio.run(go())
