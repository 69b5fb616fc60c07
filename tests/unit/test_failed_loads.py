"""Weights that an engine fails to load: whether the engine or the weights are at fault."""

import asyncio

import pytest

from actors import engine_hosts
from actors.continuous_engine import ContinuousEngine, LoadFailed
from actors.engine_hosts import EngineHost
from actors.serial_engine import AsyncEngine
from tests.unit.test_async_engines import FakeAsyncLLM
from vlrm_ray.engines import EngineSettings

SETTINGS = EngineSettings("vllm", "assets:vlm", "float32", 512, 4, 16, 0.5, 0, 1)


def test_weights_that_fail_to_load_are_loaded_once_more_into_a_new_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, started = load_with(1, monkeypatch)
    assert loaded == 0.0
    assert started == 2


def test_weights_that_no_engine_loads_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RuntimeError, match=r"^critic-0 on node .*: loading the weights of /weights failed: no such file"
    ):
        load_with(2, monkeypatch)


def load_with(failures: int, monkeypatch: pytest.MonkeyPatch) -> tuple[float, int]:
    """Load weights that fail to load several times; returns the canary's change and the number of engines started."""
    started: list[FakeAsyncLLM] = []
    left = [LoadFailed("loading the weights of /weights failed: no such file")] * failures
    load = FakeAsyncLLM.load

    def start(settings: EngineSettings) -> AsyncEngine:
        started.append(FakeAsyncLLM(0.01))
        return ContinuousEngine(started[-1], settings.max_num_seqs)

    async def load_or_fail(self: FakeAsyncLLM, folder: str) -> None:
        if left:
            raise left.pop()
        await load(self, folder)

    monkeypatch.setattr(engine_hosts, "_start_engine", start)
    monkeypatch.setattr(engine_hosts, "local_model", lambda model, ledger: model)
    monkeypatch.setattr(FakeAsyncLLM, "load", load_or_fail)

    async def go() -> float:
        return await EngineHost("critic-0", SETTINGS).load("/weights")

    return asyncio.run(go()), len(started)
