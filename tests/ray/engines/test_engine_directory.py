"""The directory of the engines is lost with its process or node, and the stages that ask it go on."""

import asyncio
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from actors.elastic_engines import ElasticEngines, Scaling
from actors.engine_directory import start_directory
from tests.ray.test_progress_board import end_process, wait_until
from tests.unit.test_engine_pool import Board
from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import Completion, LoadReport, Request
from vlrm_ray.pipeline.stages.engine_pool import EnginePool

pytestmark = pytest.mark.usefixtures("ray_cluster")
ENGINE = Engine(actors=1, max_actors=2, max_num_seqs=4, reproducible=False)


@ray.remote(num_cpus=0)
class Answering:
    """Stands for the actor of an engine, which answers every request."""

    async def load_report(self) -> LoadReport:
        return LoadReport()

    async def score(self, requests: list[Request]) -> list[Completion]:
        return [Completion("", 0.6, 0.4)] * len(requests)

    async def close(self) -> None: ...


def test_a_directory_that_is_lost_is_started_again_and_told_the_engines() -> None:
    engines = {number: Answering.remote() for number in range(2)}
    elastic = ElasticEngines("policy", ENGINE, {0: engines[0]}, lambda name: engines[1], lambda *_: None, print)
    elastic.open[1] = engines[1]
    directory = start_directory(None)

    def loads() -> Mapping[str, Mapping[str, int]]:
        return {f"policy-{number}": {"running": 4, "waiting": 0, "gave_up": 0} for number in engines}

    def known() -> dict[int, Any]:
        with suppress(RayError):  # it is being started again
            return dict(ray.get(directory.engines.remote("policy")))
        return {}

    async def go() -> None:
        pool = EnginePool("policy", {0: engines[0]}, Board(), engine=ENGINE, timeout=60.0, directory=directory)  # type: ignore[arg-type]
        await asyncio.to_thread(end_process, directory)
        assert len(await pool.score("critique", 0, [Request("a", None)])) == 1
        await asyncio.to_thread(wait_until, lambda: known().keys() == {0, 1})
        pool._asked = 0.0
        assert len(await pool.score("critique", 0, [Request("b", None)])) == 1
        assert pool.actors.keys() == {0, 1}

    with closing(Scaling({"policy": elastic}, directory, loads)):
        wait_until(lambda: known().keys() == {0, 1})
        asyncio.run(go())
