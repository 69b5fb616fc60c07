"""CPU time of the generate stage against that of the bare engine on the same requests, in turns.

In each turn the stage works on some parts, and then, or before, the bare engine answers the same requests in this process.
Nothing else runs meanwhile, and both see the same load of the machine. The stage's time is that of the process that it
runs in and of the policy generators.
"""

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import psutil
import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.fleet import Fleet
from jobs.benches.bare_engine import answer, start_bare_engine
from vlrm_ray.config import Config
from vlrm_ray.engines import Engine
from vlrm_ray.pipeline.cluster import connected
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.prompts import prompts_of_round
from vlrm_ray.pipeline.stages import EnginePool, Generate, Ingest, prompt_table
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import from_table

TURNS, PARTS_PER_TURN = 13, 2
"""Turns, of which the first is left out of the figures, and the parts of each."""
PARTS = TURNS * PARTS_PER_TURN


class Stage(Generate):
    """The generate stage as an actor that tells its process."""

    def pid(self) -> int:
        """The process id."""
        return os.getpid()


def measure_ratio(config: Config, ledger: Ledger, progress: Progress) -> dict[str, Any]:
    """Measure on a cluster of its own.

    Returns:
        `cpu_seconds_ratio`: CPU seconds per candidate of the stage by those of the bare engine, median over the turns;
        `cpu_seconds_ratios`: that of each turn.
    """
    tables, ratios = _tables(config, ledger), []
    with ExitStack() as stack:
        stack.enter_context(connected(config, progress.log))
        fleet = Fleet(config, ledger)
        stack.callback(fleet.close)
        fleet.start()
        stage, pids = _start_stage(config, fleet)
        bare = start_bare_engine(config)
        stack.callback(bare.close)
        with progress.stage("CPU time in turns", len(tables), "parts") as meter:
            for turn in range(TURNS):
                parts = tables[turn * PARTS_PER_TURN :][:PARTS_PER_TURN]
                ratios.append(_turn(config, parts, stage, pids, bare, bare_first=bool(turn % 2)))
                meter.add(len(parts))
            meter.set_summary(", ".join(f"{ratio:.2f}" for ratio in ratios))
    return {
        "cpu_seconds_ratio": round(statistics.median(ratios[1:]), 3),
        "cpu_seconds_ratios": [round(ratio, 3) for ratio in ratios[1:]],
    }


def _tables(config: Config, ledger: Ledger) -> list[pa.Table]:
    """The parts of round 1 after the ingest stage."""
    refs, size, board = prompts_of_round(config, 1, ledger), config.part_rows, _NoBoard()
    ingest = Ingest(1, config, board, ledger)  # type: ignore[arg-type]
    return [ingest(prompt_table(part, refs[part * size :][:size])) for part in range(PARTS)]


def _start_stage(config: Config, fleet: Fleet) -> tuple[ActorHandle[Any], list[int]]:
    """An actor of the stage, and the processes whose time counts as the stage's."""
    actors = fleet.stage_actors()
    pool = EnginePool.of("policy", config, actors)
    in_flight = config.cluster.parts_in_flight
    stage = ray.remote(Stage).options(num_cpus=0, max_concurrency=in_flight).remote(config, pool, None, "")
    engines = [health.pid for health in ray.get([actor.health.remote() for actor in actors.policy])]
    return stage, [*engines, ray.get(stage.pid.remote())]


def _turn(
    config: Config,
    parts: Sequence[pa.Table],
    stage: ActorHandle[Any],
    pids: Sequence[int],
    bare: Engine,
    bare_first: bool,
) -> float:
    """CPU seconds of the stage by those of the bare engine on some parts."""
    seconds = {}
    for who in ("bare", "stage") if bare_first else ("stage", "bare"):
        if who == "stage":
            start = _cpu_seconds(pids)
            tables = ray.get([stage.__call__.remote(part) for part in parts])
            seconds[who] = _cpu_seconds(pids) - start
            kept = sum(len(row.candidates) for table in tables for row in from_table(table))
        else:
            start = time.process_time()
            answers = sum(answer(config, bare, from_table(part)) for part in parts)
            seconds[who] = time.process_time() - start
    assert kept and kept >= 0.9 * answers, f"the stage kept {kept} of {answers} responses"
    return seconds["stage"] / seconds["bare"]


def _cpu_seconds(pids: Sequence[int]) -> float:
    times = []
    for pid in pids:
        process = psutil.Process(pid)
        times += [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(time_.user + time_.system for time_ in times)


class _NoBoard:
    def add(self, *_: object) -> None: ...
