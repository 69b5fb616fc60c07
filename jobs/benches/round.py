"""Measure the throughput of one round with real engines, and of the bare engine on the same requests.

    python jobs/bench.py                          the embedded scenes
    python jobs/bench.py prompts.per_round=320    with overrides, as for jobs/iterate.py
    python jobs/bench.py --json                   also print the figures as JSON

The run's folder is temporary. Absolute times depend on the load of the machine; the ratio of pipeline and bare engine
compares two measurements of the same session.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from jobs.benches.bare_engine import answer, start_bare_engine
from jobs.benches.output import add_config_options, add_json_option, show_figures
from vlrm_ray.config import Config, load
from vlrm_ray.engines import Request
from vlrm_ray.pipeline.cluster import connected
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.prompts import prompts_of_round
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.rows import from_table

if TYPE_CHECKING:
    from vlrm_ray.pipeline.rounds import Rounds

WARM_UP = 8
"""Requests that an engine answers before it is measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config_options(parser)
    add_json_option(parser, "print the figures as JSON on the last line")


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        config = load(arguments.config, [*arguments.overrides, "rounds=1", f"folder={scratch}", "name=bench"])
        check_inputs(config)
        progress = Progress()
        figures = measure_round(config, Ledger(f"{scratch}/bench"), progress)
    show_figures(figures, progress, as_json=arguments.json)


def measure_round(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run one round, then the bare engine on the same requests; returns seconds, rates and their ratios by name."""
    figures = _run_round(config, ledger, progress) | _run_bare_engine(config, ledger, progress)
    figures["pipeline / bare engine"] = figures["candidates/s, generate stage"] / figures["candidates/s, bare engine"]
    return figures


@contextmanager
def _started(config: Config, ledger: Ledger, progress: Progress) -> Iterator["Rounds"]:
    """Context manager: a cluster with the fleet of a run; yields its rounds."""
    with ExitStack() as stack:
        stack.enter_context(connected(config, progress.log))
        from actors.fleet import Fleet
        from vlrm_ray.pipeline import graph
        from vlrm_ray.pipeline.rounds import Rounds

        graph.configure_ray_data(config.cluster)
        fleet = Fleet(config, ledger)
        stack.callback(fleet.close)
        fleet.start()
        yield Rounds(config, ledger, fleet, progress)


def _warm_up(rounds: "Rounds") -> None:
    """Let the policy generators answer a few requests, as the bare engine does: what they do once is not measured."""
    import ray

    from vlrm_ray.pipeline.stages.generate import sampling_of

    refs = prompts_of_round(rounds.config, 1, rounds.store)[:WARM_UP]
    requests = [Request(ref.question, ref.image) for ref in refs]
    policy = rounds.fleet.stage_actors().policy
    ray.get([actor.generate.remote(requests, sampling_of(rounds.config.policy, 1)) for actor in policy])


def _run_round(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run one round with its evaluations; returns seconds per stage and rates by name."""
    start = time.monotonic()
    with _started(config, ledger, progress) as rounds:
        start_seconds = time.monotonic() - start
        rounds.evaluate(0)
        _warm_up(rounds)
        rounds.gather(1)
        rounds.train(1)
        rounds.evaluate(1)
    results: dict[str, Any] = {s: ledger.result(1, s) or {} for s in (*ROLLOUT_STAGES, "train", "evaluate")}
    figures = {"seconds, start Ray and engines": start_seconds}
    figures |= {
        f"seconds busy, {stage}": result["seconds"] for stage, result in results.items() if result.get("seconds")
    }
    wall = results["select"]["wall_seconds"]
    candidates, pairs = results["generate"]["rows"]["kept"], results["select"]["rows"]["kept"]
    critiques = results["critique"]["rows"]["in"]
    training = results["train"].get("metrics", {}).get("seconds", 0.0)
    return figures | {
        "seconds, gather (wall, with the pools' start)": wall,
        "candidates/s, generate stage": candidates / _busy_seconds(results["select"]["spans"], "policy"),
        "candidates/s, gather": candidates / wall,
        "critiques/s, critique stage": critiques / max(1e-9, results["critique"]["seconds"]),
        "verified pairs/s, gather": pairs / wall,
        "trained pairs/s, steps only": pairs / training if training else 0.0,
        "trained pairs/s, whole fit": pairs * config.train.epochs / max(1e-9, results["train"]["seconds"]),
    }


def _busy_seconds(spans: dict[str, list[tuple[float, float]]], prefix: str) -> float:
    """Mean busy seconds of the actors whose names start with `prefix`; `spans` are (start, end) by actor."""
    seconds = [sum(end - start for start, end in busy) for name, busy in spans.items() if name.startswith(prefix)]
    return sum(seconds) / max(1, len(seconds))


def _run_bare_engine(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run the policy's engine in this process on the requests of the measured round; returns its rate by name."""
    with progress.stage("bare engine"):
        engine = start_bare_engine(config)
        parts = [from_table(ledger.get_part(1, "rows", part)) for part in ledger.parts(1)]
        answer(config, engine, parts[0][:WARM_UP])
        start = time.monotonic()
        candidates = sum(answer(config, engine, rows) for rows in parts)
        seconds = time.monotonic() - start
        engine.close()
    return {"candidates/s, bare engine": candidates / seconds}
