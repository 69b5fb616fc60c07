"""Measure the throughput of the pipeline on this machine: one round, then the bare engine on the same prompts.

    python jobs/bench.py                          the embedded scenes
    python jobs/bench.py prompts.per_round=320    with overrides, as for jobs/iterate.py
    python jobs/bench.py --json                   also print the figures as JSON
    python jobs/bench.py experts                  the vision experts and the verifier alone, without Ray

The run's folder is temporary. Absolute times depend on the load of the machine; the ratio of pipeline and bare engine
compares two measurements of the same session.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vlrm_ray.config import Config, load
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.errors import run_as_program
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, connected
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import ImageCondition


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file, as for jobs/iterate.py")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="configuration overrides with dotted keys; `experts` before them measures the experts alone",
    )
    arguments = parser.parse_args()
    if arguments.overrides[:1] == ["experts"]:
        from jobs.benches.experts import measure_experts

        figures = measure_experts(load(arguments.config, arguments.overrides[1:]), Progress())
        _show(figures, Progress(), as_json=arguments.json)
        return
    with tempfile.TemporaryDirectory() as scratch:
        config = load(arguments.config, [*arguments.overrides, "rounds=1", f"folder={scratch}", "name=bench"])
        check_inputs(config)
        progress = Progress()
        ledger = Ledger(f"{scratch}/bench")
        figures = measure(config, ledger, progress)
        figures |= bare_engine(config, ledger, progress)
        figures["pipeline / bare engine"] = (
            figures["candidates/s, generate stage"] / figures["candidates/s, bare engine"]
        )
    _show(figures, progress, as_json=arguments.json)


def _show(figures: dict[str, float], progress: Progress, *, as_json: bool) -> None:
    progress.table("bench", ["figure", "value"], [[name, f"{value:.2f}"] for name, value in figures.items()])
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def measure(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run one round with its evaluations; returns seconds per stage and rates by name."""
    with ExitStack() as stack:
        start = time.monotonic()
        stack.enter_context(connected(config, progress.log))
        from actors.fleet import Fleet
        from vlrm_ray.pipeline import graph
        from vlrm_ray.pipeline.rounds import Rounds

        graph.configure_ray_data()
        fleet = Fleet(config, ledger)
        fleet.start()
        stack.callback(fleet.close)
        start_seconds = time.monotonic() - start
        rounds = Rounds(config, ledger, fleet, progress)
        rounds.evaluate(0)
        rounds.gather(1)
        rounds.train(1)
        rounds.evaluate(1)
    results: dict[str, Any] = {
        s: ledger.result(1, s) or {} for s in ("generate", "verify", "pair", "critique", "select", "train", "evaluate")
    }
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


def bare_engine(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run the policy's engine in this process on the requests of the measured round; returns its rate by name."""
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.fleet import engine_settings
    from vlrm_ray.engines import Engine

    with progress.stage("bare engine"):
        engine: Engine
        if config.policy.engine.kind == "vllm":
            from actors.vllm_engine import VllmEngine

            engine = VllmEngine(engine_settings(config.policy.engine, config.policy.model))
        else:
            from actors.transformers_engine import TransformersEngine

            engine = TransformersEngine(engine_settings(config.policy.engine, config.policy.model))
        policy = config.policy
        counts: dict[ImageCondition, int] = {}
        batches = _requests(config, ledger)
        engine.generate(
            batches[0][ImageCondition.FULL][:8], Sampling(policy.max_tokens, policy.temperature, policy.top_p, 1)
        )
        start = time.monotonic()
        for batch in batches:
            for condition, n in (
                (ImageCondition.FULL, policy.samples),
                (ImageCondition.IMAGE_FREE, policy.image_free),
                (ImageCondition.IMAGE_DEGRADED, policy.image_degraded),
            ):
                if n:
                    answers = engine.generate(
                        batch[condition], Sampling(policy.max_tokens, policy.temperature, policy.top_p, n)
                    )
                    counts[condition] = counts.get(condition, 0) + sum(map(len, answers))
        seconds = time.monotonic() - start
        engine.close()
    return {"candidates/s, bare engine": sum(counts.values()) / seconds}


def _requests(config: Config, ledger: Ledger) -> list[dict[ImageCondition, list[Request]]]:
    """The requests of round 1, by part and image condition, with the same seeds as in the round."""
    from vlrm_ray.store.rows import from_table

    return [
        {
            condition: [
                Request(
                    row.prompt.question, row.prompt.image, condition, seed_of("sample", row.prompt.prompt_id, condition)
                )
                for row in from_table(ledger.get_part(1, "rows", part))
            ]
            for condition in ImageCondition
        }
        for part in ledger.parts(1)
    ]


if __name__ == "__main__":
    run_as_program(main)
