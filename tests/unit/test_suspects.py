"""Requests on which an engine's process ends: they are found among those that it worked on, refused, and remembered."""

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from actors import engine_hosts
from actors.continuous_engine import ContinuousEngine
from actors.engine_hosts import ENGINE_RESTARTS, EngineHost
from actors.examination import MORE_DEATHS, Examination
from actors.serial_engine import AsyncEngine, SerialEngine
from actors.suspects import Refusals, Suspect
from tests.unit.test_refused_requests import GOOD, PickyEngine
from vlrm_ray.engines import ENDED, Completion, EngineDied, EngineSettings, Request, Sampling
from vlrm_ray.errors import StorageError
from vlrm_ray.pipeline import remedies
from vlrm_ray.pipeline.stages.commit import Tally
from vlrm_ray.store import patience
from vlrm_ray.store.ledger import Ledger

SETTINGS = EngineSettings("vllm", "assets:vlm", "float32", 512, 32, 16, 0.5, 0, 1)
SAMPLING = Sampling(8)


class Backend:
    """A backend whose process ends on requests with the word POISON, and once on any if `dies` is set.

    Attributes:
        seen: the texts of all requests that it got.
    """

    def __init__(self, dies: bool = False, sick: bool = False) -> None:
        self.dies, self.sick, self.dead = dies, sick, False
        self.seen: list[str] = []

    async def generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        await self._work(request)
        return [Completion(request.text)] * sampling.n

    async def score(self, request: Request) -> Completion:
        await self._work(request)
        return Completion("", 0.6, 0.4)

    async def load(self, folder: str) -> None: ...

    async def close(self) -> None: ...

    async def _work(self, request: Request) -> None:
        self.seen.append(request.text)
        await asyncio.sleep(0.001)
        self.dead = self.dead or self.dies or self.sick or "POISON" in request.text
        await asyncio.sleep(0)
        if self.dead:
            raise EngineDied("exit code -11")


def start_backends(monkeypatch: pytest.MonkeyPatch) -> list[Backend]:
    """Let actors start backends, which are returned."""
    started: list[Backend] = []

    def start(settings: EngineSettings) -> AsyncEngine:
        started.append(Backend())
        return ContinuousEngine(started[-1], settings.max_num_seqs)

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    return started


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[Backend]:
    """The backends that actors have started."""
    return start_backends(monkeypatch)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


def files(ledger: Ledger) -> list[str]:
    """The files of the run."""
    return sorted(str(p.relative_to(ledger.root)) for p in Path(ledger.root).rglob("*") if p.is_file())


def requests(count: int, *poisonous: int) -> list[Request]:
    return [Request(f"{i} POISON" if i in poisonous else f"{i}", f"{i}.png", seed=i) for i in range(count)]


async def answers(host: EngineHost, asked: Sequence[Request]) -> list[str]:
    """The answers to requests that are sent one by one, or why they were refused."""
    groups = await asyncio.gather(*(host.generate([request], SAMPLING) for request in asked))
    return [answer.refused or answer.text for ((answer,),) in groups]


def expected(asked: Sequence[Request]) -> list[str]:
    return [ENDED if "POISON" in request.text else request.text for request in asked]


# --- in one actor -------------------------------------------------------------------------------


@pytest.mark.parametrize("poisonous", [(5,), (0,), (63,), (0, 1), (7, 40), (62, 63)])
def test_requests_that_end_the_engine_are_found_and_all_others_answered(
    poisonous: tuple[int, ...], backends: list[Backend], ledger: Ledger
) -> None:
    asked, host = requests(64, *poisonous), EngineHost("policy-0", SETTINGS, ledger)
    assert asyncio.run(answers(host, asked)) == expected(asked)
    assert len(backends) <= 2 + 6 * len(poisonous)  # the halvings of 64 requests
    assert [name.partition("/")[0] for name in files(ledger)] == ["refused"] * len(poisonous)
    assert asyncio.run(host.health()).problem == ""


def test_a_run_gets_past_any_number_of_such_requests(backends: list[Backend]) -> None:
    async def go() -> None:
        host = EngineHost("policy-0", SETTINGS)
        for number in range(2 * ENGINE_RESTARTS + 1):
            asked = requests(8, number)
            assert await answers(host, asked) == expected(asked)

    asyncio.run(go())


def test_a_refused_request_is_not_sent_again_with_another_seed(backends: list[Backend]) -> None:
    async def go() -> int:
        host = EngineHost("policy-0", SETTINGS)
        asked = [replace(request, seed=seed) for request in requests(8, 3) for seed in (0, 100)]
        assert await answers(host, asked) == expected(asked)
        started = len(backends)
        assert (await host.score(requests(4, 3)))[3].refused == ENDED
        assert len(backends) == started
        return started

    assert asyncio.run(go()) <= 2 + 4  # the search for the second one costs nothing


def test_an_engine_that_ends_without_a_cause_answers_everything(backends: list[Backend], ledger: Ledger) -> None:
    async def go() -> None:
        host = EngineHost("policy-0", SETTINGS, ledger)
        backends[0].dies = True
        assert await answers(host, requests(20)) == expected(requests(20))

    asyncio.run(go())
    assert len(backends) == 2
    assert files(ledger) == []


def test_only_what_the_engine_worked_on_is_examined(backends: list[Backend]) -> None:
    """Of 100 requests 4 have a place; the others wait, and are answered as usual."""
    host, asked = EngineHost("policy-0", replace(SETTINGS, max_num_seqs=2)), requests(100, 1)
    assert asyncio.run(answers(host, asked)) == expected(asked)
    assert backends[1].seen == ["0", "2", "1 POISON", "3"] or set(backends[1].seen) < {"0", "1 POISON", "2", "3"}
    assert len(backends) == 4


def test_a_sick_engine_ends_the_calls_after_few_restarts(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    started: list[Backend] = []

    def start(settings: EngineSettings) -> AsyncEngine:
        started.append(Backend(sick=True))
        return ContinuousEngine(started[-1], settings.max_num_seqs)

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    host = EngineHost("policy-0", SETTINGS, ledger)
    with pytest.raises(
        EngineDied, match=r"policy-0 on node \S+ has no running engine: exit code -11, .*restarted 9 times"
    ):
        asyncio.run(answers(host, requests(64)))
    assert len(started) == 1 + MORE_DEATHS + 7
    assert sum(name.startswith("refused/") for name in files(ledger)) <= 1 + MORE_DEATHS


def test_nothing_is_written_while_no_engine_ends(backends: list[Backend], ledger: Ledger) -> None:
    assert asyncio.run(answers(EngineHost("policy-0", SETTINGS, ledger), requests(4))) == ["0", "1", "2", "3"]
    assert files(ledger) == []


def test_a_storage_that_fails_does_not_stop_the_search(
    backends: list[Backend], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("cannot reach the bucket")

    for method in ("put_json", "get_json", "names", "delete"):
        monkeypatch.setattr(Ledger, method, fail)
    asked = requests(8, 2)
    assert asyncio.run(answers(EngineHost("policy-0", SETTINGS, ledger), asked)) == expected(asked)


def test_no_note_waits_for_a_storage_that_is_away(
    backends: list[Backend], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one would wait for ten minutes otherwise, and the calls with it."""
    waits: list[float] = []

    class Away:
        def __getattr__(self, name: str) -> object:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(ledger, "fs", Away())
    monkeypatch.setattr(ledger, "quick", Away())
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(patience.time, "sleep", waits.append)
    asked = requests(8, 2)
    assert asyncio.run(answers(EngineHost("policy-0", SETTINGS, ledger), asked)) == expected(asked)
    assert waits == []


class ForgetfulBackend(Backend):
    """A backend that cannot read the images of requests with the word LOST, and says so before it works on others."""

    async def _work(self, request: Request) -> None:
        if "LOST" in request.text:
            raise StorageError("cannot read s3://photos/a.png")
        await asyncio.sleep(0.01)
        await super()._work(request)


@pytest.mark.parametrize("lost", [(2,), (2, 3), (0, 1, 2)])
def test_an_image_that_cannot_be_read_clears_no_other_request(lost: tuple[int, ...], ledger: Ledger) -> None:
    """Its error ends the call of the group before the engine has worked on the others."""
    suspects = [Suspect(request, SAMPLING) for request in requests(8, 4)]
    for i in lost:
        suspects[i] = Suspect(Request(f"{i} LOST", "a.png"), SAMPLING)
    started: list[ForgetfulBackend] = []

    def start() -> AsyncEngine:
        started.append(ForgetfulBackend())
        return ContinuousEngine(started[-1], 64)

    refusals = Refusals("policy-0", SETTINGS, ledger)
    examination = Examination(start, refusals)
    asyncio.run(examination.run(suspects))
    assert [suspect.request in refusals for suspect in suspects] == [i == 4 for i in range(8)]
    assert examination.explained
    assert not any(backend.dead for backend in started[-1:])


def test_images_that_cannot_be_read_do_not_show_that_the_engine_is_well() -> None:
    suspects = [Suspect(Request(f"{i} LOST", "a.png"), SAMPLING) for i in range(4)]
    examination = Examination(lambda: ContinuousEngine(ForgetfulBackend(), 64), Refusals("policy-0", SETTINGS, None))
    asyncio.run(examination.run(suspects))
    assert (examination.survived, examination.found) == (False, 0)


class PoisonedEngine(PickyEngine):
    """An engine for one batch at a time whose process ends on requests with the word POISON."""

    def _accepted(self, requests: Sequence[Request]) -> Sequence[Request]:
        if any("POISON" in request.text for request in super()._accepted(requests)):
            raise EngineDied("exit code -11")
        return requests


def test_a_batch_is_answered_as_one_without_the_request_that_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[PoisonedEngine] = []

    def start(settings: EngineSettings) -> AsyncEngine:
        return SerialEngine(lambda: engines.append(PoisonedEngine()) or engines[-1])  # type: ignore[func-returns-value]

    monkeypatch.setattr(engine_hosts, "_start_engine", start)

    async def go() -> tuple[list[list[Completion]], list[list[Completion]]]:
        host = EngineHost("policy-0", SETTINGS)
        first, second = requests(8, 3), [Request("other", None)]
        return await asyncio.gather(host.generate(first, SAMPLING), host.generate(second, SAMPLING))

    batch, other = asyncio.run(go())
    assert [group[0].refused for group in batch] == [ENDED if i == 3 else "" for i in range(8)]
    assert other == [[GOOD]]
    assert [text for text in "01234567" if text != "3"] in engines[-1].calls


# --- in later processes -------------------------------------------------------------------------


def test_later_sessions_and_other_actors_refuse_it_at_once_unless_the_settings_change(
    backends: list[Backend], ledger: Ledger
) -> None:
    asked = requests(8, 3)
    asyncio.run(answers(EngineHost("policy-0", SETTINGS, ledger), asked))
    started = len(backends)
    assert asyncio.run(answers(EngineHost("policy-1", SETTINGS, ledger), asked)) == expected(asked)
    assert len(backends) == started + 1
    assert "3 POISON" not in backends[-1].seen
    other = EngineHost("policy-0", replace(SETTINGS, max_pixels=1000), ledger)
    assert asyncio.run(answers(other, asked)) == expected(asked)
    assert len(backends) > started + 2


def test_an_actor_that_ended_during_the_search_goes_on_with_it_after_its_start(
    backends: list[Backend], ledger: Ledger
) -> None:
    suspects = [Suspect(request, SAMPLING) for request in requests(8, 3)]
    Refusals("policy-0", SETTINGS, ledger).begin(suspects)
    host = EngineHost("policy-0", SETTINGS, ledger)
    assert asyncio.run(answers(host, [Request("new", None)])) == ["new"]
    assert Request("3 POISON", "3.png") in host.refusals
    assert len(backends) == 1 + 3
    assert "new" in backends[-1].seen
    assert [name.partition("/")[0] for name in files(ledger)] == ["refused"]


def test_a_request_with_which_the_actor_itself_has_ended_twice_is_not_tried_again(
    backends: list[Backend], ledger: Ledger
) -> None:
    (suspect,) = (Suspect(request, None) for request in requests(1, 0))
    for _ in range(2):
        process = Refusals("policy-0", SETTINGS, ledger)
        process.read()
        process.begin([suspect])
    host = EngineHost("policy-0", SETTINGS, ledger)
    assert asyncio.run(answers(host, [Request("new", None), suspect.request])) == ["new", ENDED]
    assert len(backends) == 1
    assert "0 POISON" not in backends[0].seen


def test_what_another_release_has_left_is_ignored(backends: list[Backend], ledger: Ledger) -> None:
    ledger.put_json("suspects/policy-0.json", {"suspects": [{"request": {"words": 1}, "sampling": None}], "tries": 1})
    assert asyncio.run(answers(EngineHost("policy-0", SETTINGS, ledger), requests(1))) == ["0"]


def test_suspects_survive_a_file() -> None:
    suspects = [Suspect(Request("ü", None), Sampling(8, 0.5, n=3)), Suspect(Request("a", "b.png", prefix="c"))]
    assert [Suspect.of_json(suspect.as_json()) for suspect in suspects] == suspects


def test_the_reason_counts_as_a_refusal_by_the_engine() -> None:
    """So the prompt is quarantined with it, and a run whose engine refuses everything from the start ends."""
    assert Tally(0, 3, {ENDED: 2, "image_missing": 1}).refused == {ENDED: 2}
    assert remedies.for_prompts(ENDED) == "check policy.model and policy.engine"
