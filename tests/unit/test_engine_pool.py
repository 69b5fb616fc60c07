"""Several engines of one role: where requests go when one of them is sick, busy, or away."""

import asyncio
import logging
import types
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import ENDED, REFUSED, TOO_LONG, Completion, EngineDied, LoadReport, Request, Sampling
from vlrm_ray.errors import UserError, user_message
from vlrm_ray.pipeline import engine_calls, refusals
from vlrm_ray.pipeline.refusals import REST_SECONDS, WRONG_REFUSALS, SickEngines
from vlrm_ray.pipeline.stages import engine_pool
from vlrm_ray.pipeline.stages.engine_pool import MOST_LOSSES, EnginePool

FULL_DISK = f"{REFUSED}: No space left on device"
BAD = f"{REFUSED}: the image has no pixels"
SAMPLING = Sampling(8)


class Board:
    """Stands for the progress board: rows by name."""

    def __init__(self) -> None:
        self.rows = Counter[str]()

    def add(self, stage: str, rows: int, *_: object) -> None:
        self.rows[stage] += rows


class FakeEngine:
    """Stands for the handle of an engine's actor: it answers after a while, or refuses everything at once.

    Attributes:
        sick: whether it refuses everything.
        gave_up: whether its actor has given up starting the engine.
        runs: whether it reports that it runs.
        texts: the texts that it was sent.
        most: largest number of requests at the same time.
    """

    def __init__(self, seconds: float = 0.001, *, sick: bool = False) -> None:
        self.seconds, self.sick, self.runs = seconds, sick, True
        self.gave_up = self.died = False
        self.texts: list[str] = []
        self.running, self.most, self.finished = 0, 0, 0
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.generate, self.score = self._method(self._generate), self._method(self._score)
        self.load_report = self._method(self._load_report)

    def lose(self) -> None:
        """End the actor; it is away until `come_back`."""
        self.up.clear()
        self.down.set()

    def die(self) -> None:
        """End the actor for good: Ray has started it as often as it may."""
        self.died = True
        self.come_back()

    def come_back(self) -> None:
        """Start the actor again."""
        self.down.clear()
        self.up.set()

    def _method(self, work: Any) -> Any:
        def options(max_task_retries: int) -> Any:
            return types.SimpleNamespace(remote=partial(self._call, work, max_task_retries))

        return types.SimpleNamespace(remote=partial(self._call, work, 2), options=options)

    async def _call(self, work: Any, retries: int, *arguments: Any) -> Any:
        """As Ray does it: a call waits while the actor is away. One that was in progress fails, or begins again."""
        while True:
            await self.up.wait()
            if self.died:
                raise ActorDiedError()
            working, lost = asyncio.ensure_future(work(*arguments)), asyncio.ensure_future(self.down.wait())
            await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if working.done():
                return working.result()
            working.cancel()
            if not retries:
                raise ActorUnavailableError("socket closed", None)

    async def _load_report(self) -> LoadReport:
        return LoadReport(running=self.running, finished=self.finished, runs=self.runs and not self.gave_up)

    async def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        return [[answer] * sampling.n for answer in await self._score(requests)]

    async def _score(self, requests: Sequence[Request]) -> list[Completion]:
        self.texts += [request.text for request in requests]
        self.gave_up = self.gave_up or self.texts[-1] == "hopeless"
        if self.gave_up:
            raise EngineDied("policy-0 on node a has no running engine: exit code -9")
        if self.texts[-1] == "fatal":
            self.lose()
        self.running += len(requests)
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0 if self.sick else self.seconds)
        finally:
            self.running -= len(requests)
        self.finished += len(requests)
        return [Completion("", refused=self._refusal(request)) for request in requests]

    def _refusal(self, request: Request) -> str:
        if self.sick:
            return FULL_DISK
        return {"long": TOO_LONG, "deadly": ENDED, "bad": BAD}.get(request.text, "")


def pool(*engines: FakeEngine, board: Board | None = None, timeout: float = 60.0, **settings: Any) -> EnginePool:
    engine = Engine(**{"reproducible": False, "actors": len(engines)} | settings)
    return EnginePool("policy", dict(enumerate(engines)), board or Board(), engine=engine, timeout=timeout)  # type: ignore[arg-type]


def requests(*texts: str) -> list[Request]:
    return [Request(text, None) for text in texts]


async def sent(engines: EnginePool, count: int, at_a_time: int = 16) -> list[str]:
    """The refusals of requests that are sent one by one, some at a time; "" for an answer."""
    free = asyncio.Semaphore(at_a_time)

    async def one(index: int) -> str:
        async with free:
            (group,) = await engines.generate("generate", 0, requests(str(index)), SAMPLING)
        return group[0].refused

    return list(await asyncio.gather(*map(one, range(count))))


# --- a sick engine ------------------------------------------------------------------------------


def test_what_a_sick_engine_refuses_is_answered_by_others_and_it_rests() -> None:
    engines = [FakeEngine(sick=index == 0) for index in range(8)]
    assert asyncio.run(sent(pool(*engines), 400)) == [""] * 400
    assert len(engines[0].texts) <= 16 + WRONG_REFUSALS  # what was under way until it was known


def test_of_two_sick_engines_one_does_not_confirm_the_other() -> None:
    engines = [FakeEngine(sick=index < 2) for index in range(8)]
    refused = asyncio.run(sent(pool(*engines), 400)).count(FULL_DISK)
    assert refused <= 4  # before their refusals had been counted
    assert sum(len(engine.texts) for engine in engines[:2]) <= 2 * (16 + WRONG_REFUSALS)


def test_a_sick_engine_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    with caplog.at_level(logging.WARNING):
        asyncio.run(sent(pool(FakeEngine(sick=True), FakeEngine(), board=board), 40, 1))
    assert board.rows["generate refused by policy-0 only"] == WRONG_REFUSALS
    assert caplog.messages == [f"policy-0 refuses what policy-1 answers ({FULL_DISK}); it gets no requests for 300 s"]


def test_a_request_that_every_engine_refuses_is_refused_and_accuses_none() -> None:
    board, engines = Board(), [FakeEngine(), FakeEngine()]
    used = pool(*engines, board=board)

    async def go() -> None:
        for _ in range(2 * WRONG_REFUSALS):
            answers = await used.score("critique", 0, requests("fine", "bad"))
            assert [answer.refused for answer in answers] == ["", BAD]

    asyncio.run(go())
    assert [sum(text == "bad" for text in engine.texts) for engine in engines] == [2 * WRONG_REFUSALS] * 2
    assert not any("only" in name for name in board.rows)
    assert used._sick.resting() == set()


@pytest.mark.parametrize(("text", "reason"), [("long", TOO_LONG), ("deadly", ENDED)])
def test_a_request_that_no_engine_answers_is_sent_once(text: str, reason: str) -> None:
    """One that is too long, and one on which the process of the first engine has ended: the second would end too."""
    engines = [FakeEngine(), FakeEngine()]
    ((answer,),) = asyncio.run(pool(*engines).generate("generate", 0, requests(text), SAMPLING))
    assert answer.refused == reason
    assert sum(len(engine.texts) for engine in engines) == 1


def test_if_all_engines_are_sick_their_refusals_stand() -> None:
    assert asyncio.run(sent(pool(*(FakeEngine(sick=True) for _ in range(3))), 40)) == [FULL_DISK] * 40
    assert asyncio.run(sent(pool(FakeEngine(sick=True)), 4)) == [FULL_DISK] * 4


def test_a_reproducible_part_stays_with_its_engine() -> None:
    engines = [FakeEngine(sick=True), FakeEngine()]
    answers = asyncio.run(pool(*engines, reproducible=True).score("critique", 0, requests("a", "b")))
    assert [answer.refused for answer in answers] == [FULL_DISK] * 2
    assert engines[1].texts == []


def test_an_engine_gets_requests_again_after_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(refusals.time, "monotonic", lambda: now[0])
    sick = SickEngines()
    assert [sick.disproved(2) for _ in range(WRONG_REFUSALS)] == [False] * (WRONG_REFUSALS - 1) + [True]
    assert sick.resting() == {2}
    now[0] = REST_SECONDS
    assert sick.resting() == set()


def test_all_engines_are_used_if_all_rest() -> None:
    engines = pool(FakeEngine(), FakeEngine())
    for _ in range(WRONG_REFUSALS):
        for index in range(2):
            engines._sick.disproved(index)
    assert engines._usable() == {0, 1}


# --- an engine that is away ---------------------------------------------------------------------


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are asked for, and missed, within fractions of a second."""
    monkeypatch.setattr(engine_calls, "REPORT_SECONDS", 0.02)
    monkeypatch.setattr(engine_pool, "REPORT_SECONDS", 0.02)
    monkeypatch.setattr(engine_calls, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(engine_pool, "REPORT_TIMEOUT", 0.1)
    monkeypatch.setattr(engine_pool, "SILENT_SECONDS", 0.3)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch)


async def soon(condition: Any) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("_impatient")
def test_what_a_lost_engine_worked_on_is_answered_by_another_one() -> None:
    async def go() -> None:
        engines = [FakeEngine(60.0), FakeEngine(0.01)]
        used = pool(*engines)
        answers = asyncio.ensure_future(used.score("critique", 0, requests("a")))
        await soon(lambda: engines[0].texts == ["a"])
        engines[0].lose()
        assert [answer.refused for answer in await asyncio.wait_for(answers, 60)] == [""]
        assert await sent(used, 20) == [""] * 20
        assert len(engines[0].texts) == 1
        engines[0].seconds = 0.01
        engines[0].come_back()
        await soon(lambda: used._usable() == {0, 1} or used._update_loads())
        assert await sent(used, 20) == [""] * 20
        assert len(engines[0].texts) > 5

    asyncio.run(go())


@pytest.mark.usefixtures("_impatient")
def test_requests_that_wait_for_an_engine_that_is_away_are_sent_to_another_one() -> None:
    async def go() -> None:
        engines = [FakeEngine(), FakeEngine()]
        engines[0].lose()  # nothing of this pool was in progress, so it does not know
        assert await asyncio.wait_for(sent(pool(*engines), 20), 60) == [""] * 20
        assert engines[0].texts == []

    asyncio.run(go())


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("count", [1, 2])
def test_without_another_engine_requests_wait_until_one_is_back(count: int) -> None:
    async def go() -> None:
        engines = [FakeEngine(60.0) for _ in range(count)]
        used = pool(*engines)
        answers = asyncio.ensure_future(used.score("critique", 0, requests("a")))
        await soon(lambda: any(engine.texts for engine in engines))
        for engine in engines:
            engine.lose()
        await asyncio.sleep(0.5)
        assert not answers.done()
        engines[-1].seconds = 0.01
        engines[-1].come_back()
        assert [answer.refused for answer in await asyncio.wait_for(answers, 60)] == [""]

    asyncio.run(go())


@pytest.mark.usefixtures("_impatient")
def test_an_engine_that_does_not_run_gets_nothing_as_long_as_others_do() -> None:
    """One that looks for the request that ended it answers nothing, and would seem to be the least loaded."""

    async def go() -> None:
        engines = [FakeEngine(), FakeEngine(0.01)]
        used = pool(*engines)
        engines[0].runs = False
        await soon(lambda: used.least_loaded.stopped == {0} or used._update_loads())
        assert await sent(used, 40) == [""] * 40
        assert engines[0].texts == []
        engines[1].runs = False
        await soon(lambda: used.least_loaded.stopped == {0, 1} or used._update_loads())
        assert used._usable() == {0, 1}  # requests wait for both

    asyncio.run(go())


def test_requests_wait_for_an_engine_that_is_away_rather_than_for_one_that_does_not_run() -> None:
    used = pool(FakeEngine(), FakeEngine())
    used.least_loaded.stop(0)
    used.least_loaded.lose(1)
    assert used._usable() == {1}


def test_a_sick_engine_gets_nothing_while_a_healthy_one_is_away() -> None:
    used = pool(FakeEngine(), FakeEngine())
    for _ in range(WRONG_REFUSALS):
        used._sick.disproved(0)
    used.least_loaded.lose(1)
    assert used._usable() == {1}


def test_a_request_with_which_several_engines_are_lost_is_not_sent_to_all() -> None:
    engines = [FakeEngine() for _ in range(MOST_LOSSES + 3)]
    with pytest.raises(UserError) as raised:
        asyncio.run(pool(*engines).score("critique", 0, [Request("fatal", "s3://key:secret@photos/7.png")]))
    assert sum(len(engine.texts) for engine in engines) == MOST_LOSSES + 1
    message = user_message(raised.value) or ""
    assert message.startswith(
        "4 engines of the policy were lost one after the other while they worked on the same 1 requests"
    )
    assert "of the stage critique, the first of them with the image s3://" in message
    assert "photos/7.png" in message and "secret" not in message
    assert "socket closed" in message


def test_a_request_without_an_image_is_named_by_its_text() -> None:
    engines = [FakeEngine() for _ in range(MOST_LOSSES + 3)]
    with pytest.raises(UserError, match="the first of them with the text 'fatal'; look for the cause"):
        asyncio.run(pool(*engines).score("critique", 0, requests("fatal")))
