"""Throughput of one round with real engines, and of the bare engine on the same requests."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from vlrm_ray.config import Config
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, connected
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.prompts import prompts_of_round
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.types import ImageCondition

if TYPE_CHECKING:
    from vlrm_ray.pipeline.rounds import Rounds

WARM_UP = 8
"""Requests that an engine answers before it is measured."""


class CpuSeconds:
    """Context manager that measures the CPU time of those descendants of this process whose names contain some words.

    Of processes that start meanwhile, the time until their actor is ready, which they import in, is not counted.

    Attributes:
        total: CPU seconds of all of them during the context.
    """

    def __init__(self, *words: str) -> None:
        self.words = words
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self.stop = threading.Event()

    def __enter__(self) -> "CpuSeconds":
        self._sample()
        self.first = dict(self.last)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()
        self._sample()
        self.total = sum(seconds - self.first.get(pid, seconds) for pid, seconds in self.last.items())

    def _watch(self) -> None:
        while not self.stop.wait(0.2):
            self._sample()

    def _sample(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                name, times = " ".join(process.cmdline()), process.cpu_times()
            except psutil.Error:  # it has ended meanwhile
                continue
            if any(word in name for word in self.words):
                self.last[process.pid] = seconds = times.user + times.system
                if ".__init__" in name or process.pid not in self.first:
                    self.first[process.pid] = seconds


def measure_round(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run one round, then the bare engine on the same requests; returns seconds, rates and their ratios by name."""
    figures = _run_round(config, ledger, progress) | _run_bare_engine(config, ledger, progress)
    figures["pipeline / bare engine"] = figures["candidates/s, generate stage"] / figures["candidates/s, bare engine"]
    figures["CPU seconds per candidate, generate stage / bare engine"] = (
        figures["CPU seconds per candidate, generate stage"] / figures["CPU seconds per candidate, bare engine"]
    )
    return figures


def measure_generate(config: Config, ledger: Ledger, progress: Progress) -> float:
    """CPU seconds per candidate of the generate stage, divided by those of the bare engine on the same requests."""
    with _started(config, ledger, progress) as rounds:
        cpu_seconds = _gather(rounds)
    candidates: int = (ledger.result(1, "generate") or {})["rows"]["kept"]
    bare = _run_bare_engine(config, ledger, progress)["CPU seconds per candidate, bare engine"]
    return cpu_seconds / candidates / bare


@contextmanager
def _started(config: Config, ledger: Ledger, progress: Progress) -> Iterator["Rounds"]:
    """Context manager: a cluster with the fleet of a run; yields its rounds."""
    with ExitStack() as stack:
        stack.enter_context(connected(config, progress.log))
        from actors.fleet import Fleet
        from vlrm_ray.pipeline import graph
        from vlrm_ray.pipeline.rounds import Rounds

        graph.configure_ray_data()
        fleet = Fleet(config, ledger)
        stack.callback(fleet.close)
        fleet.start()
        yield Rounds(config, ledger, fleet, progress)


def _gather(rounds: "Rounds") -> float:
    """Run the rollout and critique phase of round 1; returns the CPU seconds of the generate stage and its engines.

    Before, the engines answer a few requests, as the bare engine does: what they do once is not measured.
    """
    import ray

    refs = prompts_of_round(rounds.config, 1, rounds.store)[:WARM_UP]
    requests = [Request(ref.question, ref.image) for ref in refs]
    ray.get(
        [actor.generate.remote(requests, _sampling(rounds.config, 1)) for actor in rounds.fleet.stage_actors().policy]
    )
    with CpuSeconds("PolicyGenerator", "MapBatches(Generate)") as cpu:
        rounds.gather(1)
    return cpu.total


def _run_round(config: Config, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Run one round with its evaluations; returns seconds per stage and rates by name."""
    start = time.monotonic()
    with _started(config, ledger, progress) as rounds:
        start_seconds = time.monotonic() - start
        rounds.evaluate(0)
        cpu_seconds = _gather(rounds)
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
        "CPU seconds per candidate, generate stage": cpu_seconds / candidates,
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
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.engine_actors import engine_settings
    from vlrm_ray.engines import Engine

    settings = engine_settings(config.policy.engine, config.policy.model, config.prompts.max_pixels)
    with progress.stage("bare engine"):
        engine: Engine
        if config.policy.engine.kind == "vllm":
            from actors.vllm_engine import VllmEngine

            engine = VllmEngine(settings)
        else:
            from vlrm_ray.reward.transformers_engine import TransformersEngine

            engine = TransformersEngine(settings)
        policy = config.policy
        counts: dict[ImageCondition, int] = {}
        batches = _requests(config, ledger)
        engine.generate(batches[0][ImageCondition.FULL][:WARM_UP], _sampling(config, 1))
        start, cpu_start = time.monotonic(), time.process_time()
        for batch in batches:
            for condition, n in (
                (ImageCondition.FULL, policy.samples),
                (ImageCondition.IMAGE_FREE, policy.image_free),
                (ImageCondition.IMAGE_DEGRADED, policy.image_degraded),
            ):
                if n:
                    answers = engine.generate(batch[condition], _sampling(config, n))
                    counts[condition] = counts.get(condition, 0) + sum(map(len, answers))
        seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
        engine.close()
    return {
        "candidates/s, bare engine": sum(counts.values()) / seconds,
        "CPU seconds per candidate, bare engine": cpu_seconds / sum(counts.values()),
    }


def _sampling(config: Config, n: int) -> Sampling:
    policy = config.policy
    return Sampling(policy.max_tokens, policy.temperature, policy.top_p, n, judgement="none")


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
