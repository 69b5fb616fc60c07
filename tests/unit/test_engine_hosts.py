"""The actor of an engine, used without Ray: engines that die, that cannot start, and critics that look up their version."""

import asyncio
import errno
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from actors import engine_hosts
from actors.continuous_engine import ContinuousEngine
from actors.engine_hosts import ENGINE_RESTARTS, RETRY_SECONDS, STORAGE_SECONDS, CritiqueWriter, EngineHost
from actors.serial_engine import AsyncEngine
from tests.clock import Clock
from tests.unit.test_async_engines import FakeAsyncLLM, requests
from vlrm_ray.config_sections import Cluster
from vlrm_ray.engines import ENDED, Completion, EngineDied, EngineSettings, LoadReport, Request, Sampling
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.store import filesystem, patience
from vlrm_ray.store.ledger import Ledger

SETTINGS = EngineSettings("vllm", "assets:vlm", "float32", 512, 4, 16, 0.5, 0, 1)


async def texts_of_host(host: EngineHost, *texts: str) -> list[str]:
    return [answer.refused or answer.text for (answer,) in await host.generate(requests(*texts), Sampling(8))]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_hosts, "START_PAUSES", (0.0, 0.0))


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[FakeAsyncLLM]:
    """The backends that actors have started, with their models as the first entry of the log."""
    started: list[FakeAsyncLLM] = []

    def start(settings: EngineSettings) -> AsyncEngine:
        started.append(FakeAsyncLLM(0.01))
        started[-1].log.append(settings.model)
        return ContinuousEngine(started[-1], settings.max_num_seqs)

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    return started


def test_a_dead_engine_is_started_again_and_the_calls_in_progress_are_repeated(backends: list[FakeAsyncLLM]) -> None:
    async def go() -> list[list[list[Completion]]]:
        host = EngineHost("policy-0", SETTINGS)
        await host.load("/weights")
        calls = [asyncio.create_task(host.generate(requests(text), Sampling(8))) for text in "abc"]
        await asyncio.sleep(0.005)
        backends[0].dead = True
        return await asyncio.gather(*calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_hosts, "local_model", lambda model, ledger: model)
        answers = asyncio.run(go())
    assert [group[0].text for (group,) in answers] == ["a 0", "b 0", "c 0"]
    assert [backend.log[0] for backend in backends] == ["assets:vlm", "/weights"]
    assert backends[0].log[-1] == "close"


def slow_restarts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines start slowly, but for the first one; returns the models of those that were started."""
    started: list[str] = []

    def start(settings: EngineSettings) -> AsyncEngine:
        time.sleep(0.05 * bool(started))
        started.append(settings.model)
        return ContinuousEngine(FakeAsyncLLM(0.01), 4)

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    return started


def test_a_call_that_is_cancelled_does_not_end_the_restart_that_others_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = slow_restarts(monkeypatch)

    async def go() -> list[str]:
        host = EngineHost("policy-0", SETTINGS)
        assert host.engine is not None
        host.engine.backend.dead = True  # type: ignore[attr-defined]
        first = asyncio.create_task(host.generate(requests("first"), Sampling(8, n=5)))
        while host.engine is not None:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(texts_of_host(host, "second"))
        await asyncio.sleep(0.01)
        assert await host.load_report() == LoadReport(waiting=6, runs=False)
        first.cancel()
        return await second

    assert asyncio.run(go()) == ["second 0"]
    assert len(started) == 2


def test_a_call_that_arrives_while_the_engine_is_started_again_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started = slow_restarts(monkeypatch)

    async def go() -> list[list[list[Completion]]]:
        host = EngineHost("policy-0", SETTINGS)
        early = asyncio.create_task(host.generate(requests("early"), Sampling(8)))
        await asyncio.sleep(0)
        assert host.engine is not None
        host.engine.backend.dead = True  # type: ignore[attr-defined]
        while host.engine is not None:
            await asyncio.sleep(0.001)
        return await asyncio.gather(early, host.generate(requests("late"), Sampling(8)))

    assert [group[0].text for (group,) in asyncio.run(go())] == ["early 0", "late 0"]
    assert len(started) == 2


class FakePreparation(FakeAsyncLLM):
    """A backend whose second request waits for a thread, which ends when the backend is closed."""

    def __init__(self) -> None:
        super().__init__(0.01)
        self.thread: asyncio.Future[None] | None = None

    async def generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        if "WAIT" in request.text:
            self.thread = asyncio.get_running_loop().create_future()
            await self.thread
        return await super().generate(request, sampling)

    async def close(self) -> None:
        if self.thread is not None:
            self.thread.cancel()
        await super().close()


def test_a_request_that_is_being_prepared_when_the_engine_dies_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = iter([ContinuousEngine(FakePreparation(), 16), ContinuousEngine(FakeAsyncLLM(), 16)])
    monkeypatch.setattr(engine_hosts, "_start_engine", lambda settings: next(engines))

    async def go() -> list[list[list[Completion]]]:
        host = EngineHost("policy-0", SETTINGS)
        waiting = asyncio.create_task(host.generate(requests("WAIT"), Sampling(8)))
        await asyncio.sleep(0.005)
        assert host.engine is not None
        host.engine.backend.dead = True  # type: ignore[attr-defined]
        return await asyncio.gather(waiting, host.generate(requests("b"), Sampling(8)))

    assert [group[0].text for (group,) in asyncio.run(go())] == ["WAIT 0", "b 0"]


def test_an_engine_that_dies_again_and_again_is_reported_with_actor_node_and_cause(
    backends: list[FakeAsyncLLM],
) -> None:
    async def go() -> None:
        host = EngineHost("policy-0", SETTINGS)
        for number in range(ENGINE_RESTARTS):  # nothing else was answered that would show that the engine is well
            ((answer,),) = await host.generate(requests(f"DEADLY {number}"), Sampling(8))
            assert answer.refused == ENDED
        for number in range(2):
            with pytest.raises(
                EngineDied, match=r"^policy-0 on node \S+ has no running engine: exit code -9, .*2 times"
            ):
                await host.generate(requests(f"DEADLY again {number}"), Sampling(8))
        assert (await host.health()).problem.startswith("exit code -9")
        assert await host.load_report() == LoadReport(runs=False, gave_up=True)

    asyncio.run(go())
    assert len(backends) == 1 + 2 * ENGINE_RESTARTS  # each request has ended the engine twice


def test_an_engine_that_dies_now_and_then_is_always_started_again(
    backends: list[FakeAsyncLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_hosts, "RESTART_SECONDS", 0.0)

    async def go() -> None:
        host = EngineHost("policy-0", SETTINGS)
        for number in range(2 * ENGINE_RESTARTS):
            backends[-1].dead = True
            ((answer,),) = await host.generate(requests(f"r{number}"), Sampling(8))
            assert answer.text == f"r{number} 0"

    asyncio.run(go())
    assert len(backends) == 1 + 2 * ENGINE_RESTARTS


def test_an_engine_that_cannot_be_started_again_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = iter([ContinuousEngine(FakeAsyncLLM(), 4)])
    monkeypatch.setattr(engine_hosts, "_start_engine", lambda settings: next(engines))
    host = EngineHost("policy-0", SETTINGS)
    monkeypatch.setattr(engine_hosts, "_start_engine", lambda settings: 1 / 0)
    with pytest.raises(EngineDied, match="exit code -9, and cannot be started again: division by zero"):
        asyncio.run(host.generate(requests("DEADLY"), Sampling(8)))


def test_an_engine_that_was_given_up_comes_back_when_its_node_works_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [ContinuousEngine(FakeAsyncLLM(), 4)]

    def start(settings: EngineSettings) -> AsyncEngine:
        return engines.pop()  # IndexError while there is none

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    monkeypatch.setattr(engine_hosts, "RESTART_SECONDS", 0.05)

    async def go() -> None:
        host = EngineHost("policy-0", SETTINGS)
        with pytest.raises(EngineDied, match="cannot be started again"):
            await host.generate(requests("DEADLY"), Sampling(8))
        assert (await host.load_report()).gave_up
        while (count := (await host.health()).problem.count("cannot be started again")) < 2:
            await asyncio.sleep(0.01)
        assert count == 2  # of the first and of the last time
        engines.append(ContinuousEngine(FakeAsyncLLM(), 4))
        while not (await host.load_report()).runs:
            await asyncio.sleep(0.01)
        assert await texts_of_host(host, "well") == ["well 0"]
        assert host.problem == ""

    asyncio.run(asyncio.wait_for(go(), 60))


def test_an_engine_comes_back_with_the_weights_that_its_actor_was_asked_to_load_meanwhile(
    backends: list[FakeAsyncLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_hosts, "local_model", lambda model, ledger: f"/local/{model}")
    monkeypatch.setattr(engine_hosts, "ENGINE_RESTARTS", 0)
    monkeypatch.setattr(engine_hosts, "RESTART_SECONDS", 0.05)

    async def go() -> None:
        host = EngineHost("critic-0", SETTINGS)
        with pytest.raises(EngineDied):
            await host.generate(requests("DEADLY"), Sampling(8))
        with pytest.raises(EngineDied):
            await host.load("version:7")
        assert (await host.health()).version == 7
        while not (await host.load_report()).runs:
            await asyncio.sleep(0.01)
        assert backends[-1].log[0] == "/local/version:7"

    asyncio.run(asyncio.wait_for(go(), 60))


def test_an_engine_that_was_closed_stays_so(backends: list[FakeAsyncLLM], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_hosts, "RESTART_SECONDS", 0.01)

    async def go() -> None:
        host = EngineHost("policy-0", SETTINGS)
        await host.close()
        with pytest.raises(EngineDied, match="it was closed"):
            await host.score(requests("a"))
        await asyncio.sleep(0.1)
        assert len(backends) == 1

    asyncio.run(go())


def test_an_engine_that_cannot_start_is_a_problem_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(settings: EngineSettings) -> AsyncEngine:
        raise UserError("no such model")

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    host = EngineHost("policy-0", SETTINGS)
    assert asyncio.run(host.health()).problem == "no such model"
    with pytest.raises(EngineDied, match="no such model"):
        asyncio.run(host.generate(requests("a"), Sampling(8)))


def unreachable(name: str) -> StorageError:
    """The error of a storage that cannot be reached."""
    error = StorageError(f"cannot read s3://bucket/{name}: AWS Error NETWORK_CONNECTION")
    error.__cause__ = OSError("AWS Error NETWORK_CONNECTION: timed out")
    return error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Engine core initialization failed"), unreachable("weights.safetensors")],
)
def test_an_engine_whose_start_fails_for_a_while_is_started_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [error, error]

    def start(settings: EngineSettings) -> AsyncEngine:
        if failures:
            raise failures.pop()
        return ContinuousEngine(FakeAsyncLLM(), 4)

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    assert asyncio.run(texts_of_host(EngineHost("policy-0", SETTINGS), "a")) == ["a 0"]


def test_an_engine_whose_start_always_fails_is_a_problem_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_hosts, "_start_engine", lambda settings: 1 / 0)
    problem = asyncio.run(EngineHost("policy-0", SETTINGS).health()).problem
    assert problem.startswith("policy-0 on node ")
    assert problem.endswith("cannot start its engine: division by zero")


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(1.0, 3), (25.0, 3), (50.0, 2), (100.0, 1)],  # 100 s: CUDA is out of memory once the weights are loaded
)
def test_a_start_that_fails_is_reported_before_the_driver_gives_the_actor_up(
    seconds: float, starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, failures = Clock(), list[str]()

    def start(settings: EngineSettings) -> AsyncEngine:
        clock.now += seconds
        failures.append(settings.model)
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(engine_hosts, "time", clock)
    monkeypatch.setattr(engine_hosts, "START_PAUSES", (5.0, 30.0))
    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    assert asyncio.run(EngineHost("policy-0", SETTINGS).health()).problem.endswith("CUDA out of memory")
    assert len(failures) == starts
    assert clock.now <= Cluster().start_timeout / 2


@pytest.mark.parametrize(("folder", "starts"), [("/mnt/nfs/model", 3), ("/disk/model", 1)])
def test_an_error_of_a_disk_passes_only_if_another_machine_holds_the_model(
    folder: str, starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, tries = StorageError("cannot read the weights"), list[str]()
    broken.__cause__ = OSError(errno.EIO, "Input/output error")

    def start(settings: EngineSettings) -> AsyncEngine:
        tries.append(settings.model)
        raise broken

    monkeypatch.setattr(filesystem, "_is_mounted", lambda path: path.startswith("/mnt/nfs"))
    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    assert EngineHost("policy-0", replace(SETTINGS, model=folder)).problem == "cannot read the weights"
    assert tries == [folder] * starts


def test_a_critic_whose_ledger_cannot_be_read_asks_it_once_and_says_so(
    backends: list[FakeAsyncLLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger itself is patient; three times its patience would outlast the driver's."""
    asked: list[int] = []

    def served(self: Ledger, critic: int) -> int:
        asked.append(critic)
        raise unreachable("served.json")

    monkeypatch.setattr(Ledger, "served_version", served)
    assert "NETWORK_CONNECTION" in CritiqueWriter("critic-0", SETTINGS, Ledger(str(tmp_path))).problem
    assert (asked, backends) == ([0], [])


@pytest.mark.parametrize(("restarted", "longest"), [("", STORAGE_SECONDS), ("a1", math.inf)])
def test_a_first_start_waits_for_its_storage_no_longer_than_the_driver_waits_for_it(
    restarted: str, longest: float, backends: list[FakeAsyncLLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the start of an actor that Ray starts again."""
    deadlines = list[float]()

    def served(self: Ledger, critic: int) -> int:
        deadlines.append(patience._DEADLINE.get() - time.monotonic())
        return 0

    monkeypatch.setattr(Ledger, "served_version", served)
    monkeypatch.setattr(engine_hosts, "restarted_actor", lambda: restarted)
    CritiqueWriter("critic-0", SETTINGS, Ledger(str(tmp_path)))
    assert deadlines == [pytest.approx(longest, abs=10)]
    assert Cluster().start_timeout > STORAGE_SECONDS + RETRY_SECONDS


def test_a_critic_starts_with_the_newest_version(backends: list[FakeAsyncLLM], tmp_path: Path) -> None:
    ledger, folder = Ledger(str(tmp_path / "run")), tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert CritiqueWriter("critic-0", SETTINGS, ledger).version == 0
    ledger.publish(1, folder)
    host = CritiqueWriter("critic-0", replace(SETTINGS, model="assets:vlm"), ledger)
    assert (host.version, backends[-1].log[0]) == (1, ledger.fetch_version(1))
    assert asyncio.run(host.health()).model == "assets:vlm"
