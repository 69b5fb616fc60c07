"""A real actor of one of several engines is killed: the others answer what it was asked, while Ray starts it again."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.actor import ActorHandle

from tests.simulated import SimulatedEngine
from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.pipeline.stages import EnginePool

pytestmark = pytest.mark.usefixtures("ray_cluster")
START_SECONDS = 30.0
"""Time that a killed engine takes to be back."""


class SlowStart(SimulatedEngine):
    """An engine of four slots and half a second, whose second start takes a while."""

    def __init__(self, marker: Path, name: str) -> None:
        super().__init__(4, 0.5, name=name)
        if marker.exists():
            time.sleep(START_SECONDS)
        marker.touch()


class Board:
    def add(self, *_: object) -> None: ...


def test_other_engines_answer_what_a_killed_one_was_asked(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "num_cpus": 0.1,
        "max_concurrency": 100,
        "max_restarts": 2,
        "max_task_retries": 2,
        "runtime_env": {"env_vars": WORKER_ENV | CPU_ENV},
    }
    engines: list[ActorHandle[Any]] = [
        ray.remote(SlowStart).options(**options).remote(tmp_path / str(i), f"policy-{i}") for i in range(3)
    ]
    victim = ray.get(engines[0].health.remote()).pid
    ray.get([engine.health.remote() for engine in engines])

    engine = Engine(reproducible=False)

    async def go() -> None:
        pool = EnginePool("policy", dict(enumerate(engines)), Board(), engine=engine, timeout=60.0)  # type: ignore[arg-type]
        requests = [Request(f"Question {i}", None, seed=i) for i in range(96)]
        answers = asyncio.ensure_future(pool.generate("generate", 0, requests, Sampling(8)))
        await asyncio.sleep(1.0)
        os.kill(victim, signal.SIGKILL)
        back = engines[0].health.remote()
        assert all(group[0].text for group in await answers)
        later = await pool.generate("generate", 1, requests[:8], Sampling(8))
        assert all(group[0].text for group in later)
        assert not ray.wait([back], timeout=0)[0]

    asyncio.run(go())
    for engine in engines:
        ray.kill(engine)
