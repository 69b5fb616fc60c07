"""Measure the stream of a round without models: how it scales with engines that answer after a fixed time.

    python jobs/bench.py stream --json          scaling, slots and bytes, and CPU seconds of the generate stage with the real
                                                engine, which --config configures; one line of JSON
    python jobs/bench.py stream 1000 10000      the driver's memory and the orchestration's ceiling at these prompts

The graph, its stages, the ledger and Ray are those of a run. Only the engines and the experts are simulated, so that the
figures are those of the orchestration: its efficiency, its CPU time, and the size of what travels.

Figures are of the steady state: the first quarter, in which the pools start, is left out, and so is the end, in which
some engines have nothing left to do.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from jobs.benches.cpu_time import ENGINES, CpuTime
from jobs.benches.output import add_json_option, progress_beside_json
from jobs.benches.ray_environment import ray_environment
from vlrm_ray.config import Config, load, with_overrides
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, labelled_image
from vlrm_ray.scenes.statements import statements
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import EVIDENCE, PROMPT, Row, to_table
from vlrm_ray.types import Candidate, ImageCondition, Prompt, PromptRef

SLOTS, SECONDS = 16, 2.0
"""Sequences that a simulated engine decodes at the same time, and the time of each: 8 candidates per second, which is more
than a model of 7B parameters writes on one GPU."""
GENERATORS = (1, 2, 4, 8, 16)
PROMPTS_PER_GENERATOR = 40
FIRST_SCENE = 5_000
"""Seed of the first scene that the verify stage is measured with."""
SIZE_PART_ROWS = 64
"""Prompts per part in the measurement of the driver's memory, as in the configuration for 7B models."""
NODES, NODE_CPUS = 3, 2
"""Simulated nodes and their logical CPUs. Ray starts a worker process for each logical CPU in advance."""
LONG_SHARE = 0.02
"""Share of responses that take ten times as long, in the measurement of what they cost the others."""
OVERRIDES = (
    "policy.samples=8", "policy.image_free=0", "policy.image_degraded=0", "policy.engine.reproducible=false",
    "critic.k=1", "critic.engine.reproducible=false", "part_rows=16", "experts.reader.enabled=true",
    "cluster.stages.generate.max=2", "cluster.stages.verify.max=4", "cluster.stages.critique.max=2",
)  # fmt: skip


LEAST_PROMPTS = 100
"""With fewer prompts there is no steady state to measure."""


@dataclass(frozen=True)
class Measurement:
    """What one run of the graph gave, in the steady state.

    Attributes:
        rate: candidates per second.
        slots_busy: share of the engines' slots that were busy, 0 to 1.
        prompts_per_second: committed prompts per second.
        cpu_ms: CPU milliseconds per prompt, by stage and for the driver and Ray's processes.
        cpu_busy: share of this machine's cores that these processes and the engines used, 0 to 1.
        bytes_per_candidate: Arrow bytes per candidate beyond its texts.
        driver_mb: largest resident memory of the driver, in MiB.
        driver_gain_mb: what it has gained since before the run.
    """

    rate: float
    slots_busy: float
    prompts_per_second: float
    cpu_ms: dict[str, float]
    cpu_busy: float
    bytes_per_candidate: float
    driver_mb: float
    driver_gain_mb: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "sizes", nargs="*", metavar="PROMPTS", help="numbers of prompts, to measure memory and ceiling at"
    )
    parser.add_argument("--config", metavar="FILE", help="without PROMPTS: YAML file that configures the real engine")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the figures as one line of JSON."""
    sizes, progress = arguments.sizes, progress_beside_json(arguments)
    if wrong := [size for size in sizes if not size.isdecimal() or not int(size)]:
        raise UserError(f"stream {wrong[0]}: expected numbers of prompts, such as stream 1000 10000")
    if few := [size for size in sizes if int(size) < LEAST_PROMPTS]:
        raise UserError(
            f"stream {few[0]}: some engines would get nothing to do; measure at least {LEAST_PROMPTS} prompts"
        )
    if sizes and arguments.config:
        raise UserError(
            "--config is for the real engine, which is not measured at given numbers of prompts; leave one out"
        )
    if sizes:
        print(json.dumps(measure_size(progress, [int(size) for size in sizes])))
        return
    from jobs.benches.generate_cpu import PARTS, measure_ratio

    with tempfile.TemporaryDirectory() as scratch:
        config = load(arguments.config, ["rounds=1", f"folder={scratch}", "name=bench"])
        config = with_overrides(config, [f"prompts.per_round={PARTS * config.part_rows}"])
        check_inputs(config)
        figures = measure_stream(progress)
        figures |= measure_ratio(config, Ledger(f"{scratch}/bench"), progress)
    print(json.dumps(figures))


def measure_stream(progress: Progress, generators: Sequence[int] = GENERATORS) -> dict[str, Any]:
    """Measure the scaling from the first to the last number of generators, and what long responses cost."""
    figures: dict[str, Any] = {"verify_prompts_per_second_core": round(verify_rate(), 1)}
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp") as scratch, _cluster(scratch):
        rates, cpu_busy = {}, {}
        for count in generators:
            with progress.stage(f"{count} generators") as meter:
                found = _run(Path(scratch), count, count * PROMPTS_PER_GENERATOR, SECONDS)
                rates[count], cpu_busy[str(count)] = found.rate / count, round(found.cpu_busy, 3)
                meter.set_summary(
                    f"{found.rate:.1f} candidates/s, {found.slots_busy:.1%} of the slots and {found.cpu_busy:.0%} of the "
                    "cores busy"
                )
        figures["scaling"] = {str(count): round(rate / rates[generators[0]], 4) for count, rate in rates.items()}
        figures["slots_busy"] = round(found.slots_busy, 4)
        figures["cores_busy"] = cpu_busy
        figures["bytes_per_candidate"] = round(found.bytes_per_candidate, 1)
        with progress.stage("with long responses") as meter:
            slow = _run(Path(scratch), 4, 4 * PROMPTS_PER_GENERATOR, SECONDS, long_share=LONG_SHARE)
            meter.set_summary(f"{slow.slots_busy:.1%} of the slots busy")
        figures["slots_busy_with_long_responses"] = round(slow.slots_busy, 4)
    return figures


def measure_size(progress: Progress, prompts: Sequence[int]) -> dict[str, Any]:
    """Measure the driver's memory and the orchestration's ceiling, with engines that answer at once."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp") as scratch, _cluster(scratch):
        for count in prompts:
            with progress.stage(f"{count} prompts", count, "prompts") as meter:
                found = _run(Path(scratch), 2, count, 0.0, part_rows=SIZE_PART_ROWS, done=meter.add)
                total = sum(ms for name, ms in found.cpu_ms.items() if name != ENGINES)
                meter.set_summary(
                    f"{found.prompts_per_second:.1f} prompts/s with {found.cpu_busy:.0%} of the cores, {total:.1f} ms CPU per "
                    f"prompt, driver {found.driver_mb:.0f} MiB (+{found.driver_gain_mb:.0f})"
                )
            figures[str(count)] = {
                "prompts_per_second": round(found.prompts_per_second, 1),
                "prompts_per_second_core": round(1000 / total, 1),
                "cpu_ms_per_prompt": {name: round(ms, 2) for name, ms in found.cpu_ms.items()},
                "driver_mb": round(found.driver_mb, 1),
                "driver_gain_mb": round(found.driver_gain_mb, 1),
                "bytes_per_candidate": round(found.bytes_per_candidate, 1),
            }
    return figures


def verify_rate(prompts: int = 64) -> float:
    """Prompts per CPU second of the verify and pair stage, each with 8 responses of 60 words.

    The responses to a prompt are true and false statements about its scene, so they differ as those of a policy do.
    """
    from tests.simulated import verifier
    from vlrm_ray.pipeline.stage_actors import StageActors
    from vlrm_ray.pipeline.stages import VerifyAndPair

    rows = [_described(index, prompts) for index in range(prompts)]
    table = to_table(rows, [*PROMPT, "asked", "candidates", *EVIDENCE])
    board: Any = _NoBoard()
    stage = VerifyAndPair(load(None, []), StageActors([], [], object, object, board, None, verifier()))
    stage(table.slice(0, 1))
    start = time.process_time()
    stage(table.slice(1))
    return (prompts - 1) / (time.process_time() - start)


def _described(index: int, prompts: int) -> Row:
    """A prompt with responses that describe its scene."""
    from tests.simulated import WORDS

    labelled, rng = labelled_image(IN_DISTRIBUTION, FIRST_SCENE + index), random.Random(index)
    sentences, candidates = [statement.text for statement in statements(labelled, rng)], []
    for sample in range(8):
        text = ""
        while len(text.split()) < WORDS:
            text += f"{rng.choice(sentences)} "
        candidates.append(Candidate(f"{index}-{sample}", text.strip(), ImageCondition.FULL))
    seen = true_evidence(labelled.scene)
    prompt = Prompt(f"p{index}", "a.png", "0", "Describe the image.")
    return Row(0, 1, prompt, "", prompts, 8, tuple(candidates), seen.width, seen.height, seen.objects, seen.words)


class _NoBoard:
    def add(self, *_: object) -> None: ...


@contextmanager
def _cluster(scratch: str) -> Iterator[None]:
    """A Ray cluster of several nodes on this machine."""
    Path(scratch, "ray").mkdir()
    with ray_environment(RAY_TMPDIR=scratch, RAY_worker_maximum_startup_concurrency="32"):
        import ray
        from ray.cluster_utils import Cluster

        node = {"num_cpus": NODE_CPUS, "object_store_memory": 300 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            for _ in range(NODES - 1):
                cluster.add_node(**node)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield
        finally:
            ray.shutdown()
            cluster.shutdown()


def _run(
    scratch: Path,
    generators: int,
    prompts: int,
    seconds: float,
    *,
    long_share: float = 0.0,
    part_rows: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> Measurement:
    import ray

    from actors.progress_board import ProgressBoard
    from tests.simulated import SimulatedDetector, SimulatedEngine, SimulatedReader, verifier
    from vlrm_ray.pipeline.graph import build_graph, configure_ray_data
    from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors

    config = load(None, [*OVERRIDES, *([f"part_rows={part_rows}"] if part_rows else [])])
    configure_ray_data(config.cluster)
    ledger = Ledger(str(scratch / f"run-{generators}-{prompts}-{time.time()}"))
    engine = ray.remote(SimulatedEngine).options(num_cpus=0.01, max_concurrency=1000)
    policy = [engine.remote(SLOTS, seconds, long_share=long_share) for _ in range(generators)]
    critics = [engine.remote(4 * SLOTS, seconds / 4, critic=True) for _ in range(max(1, generators // 2))]
    board = ray.remote(ProgressBoard).options(num_cpus=0).remote()
    reporter = ProgressReporter(board)
    stage_actors = StageActors(policy, critics, SimulatedDetector, SimulatedReader, reporter, None, verifier())
    ray.get([actor.history.remote() for actor in (*policy, *critics)])  # all have started
    graph = build_graph(config, 1, _parts(config, scratch, prompts), stage_actors, ledger, ledger)
    stream = _Stream(prompts, done)
    for table in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        stream.add(table)
    rate, busy = _steady_state(ray.get([actor.history.remote() for actor in policy]), SLOTS * generators)
    for actor in (*policy, *critics, board):
        ray.kill(actor)
    markers = ledger.part_markers(1).values()
    excess = sum(marker["wire_bytes"] - marker["text_bytes"] for marker in markers)
    candidates = sum(marker["row_counts"]["generate"]["kept"] for marker in markers)
    return stream.measurement(rate, busy, excess / candidates)


class _Stream:
    """Counts what arrives at the driver, and measures time, CPU time and the driver's memory meanwhile."""

    def __init__(self, prompts: int, done: Callable[[int], None]) -> None:
        self.prompts, self.report, self.done = prompts, done, 0
        self.first_memory = self.memory = psutil.Process().memory_info().rss
        self.started_at = 0
        self.start, self.cpu = time.monotonic(), CpuTime()

    def add(self, table: pa.Table) -> None:
        """Count the prompts of a table of tallies."""
        arrived = sum(tally.prompts for tally in Tally.of_table(table))
        self.done += arrived
        self.report(arrived)
        self.memory = max(self.memory, psutil.Process().memory_info().rss)
        if not self.started_at and self.done >= self.prompts / 4:
            self.started_at, self.start, self.cpu = self.done, time.monotonic(), CpuTime()
        self.cpu.update()

    def measurement(self, rate: float, busy: float, bytes_per_candidate: float) -> Measurement:
        """The measurement after the last table."""
        assert self.done == self.prompts, f"{self.done} of {self.prompts} prompts arrived"
        seconds, prompts = time.monotonic() - self.start, max(1, self.done - self.started_at)
        cpu = self.cpu.by_role()
        return Measurement(
            rate,
            busy,
            prompts / seconds,
            {name: 1000 * spent / prompts for name, spent in cpu.items()},
            sum(cpu.values()) / seconds / (os.cpu_count() or 1),
            bytes_per_candidate,
            self.memory / 2**20,
            (self.memory - self.first_memory) / 2**20,
        )


def _parts(config: Config, scratch: Path, prompts: int) -> dict[int, list[PromptRef]]:
    """Prompts about eight images, in parts."""
    images = []
    for index in range(8):
        images.append(str(scratch / f"{index}.png"))
        if not Path(images[-1]).exists():
            paint(UNBIASED_WORLD.sample(index)).image.save(images[-1])
    refs = [PromptRef(images[i % 8], f"What do you see? ({i})") for i in range(prompts)]
    size = config.part_rows
    return {i: refs[i * size : (i + 1) * size] for i in range(-(-prompts // size))}


def _steady_state(histories: Sequence[Sequence[tuple[float, int]]], slots: int) -> tuple[float, float]:
    """Sequences per second and the share of busy slots, while requests wait for all engines.

    Args:
        histories: for each engine the changes of the number of busy slots, each with its time.
        slots: slots of all engines.

    The time until an engine's last sequence has started is that in which it has work; the first quarter of it is left out.
    Sequences start and end in waves, so they are not counted in that time: their rate is the number of busy slots divided
    by the mean time of a sequence (Little's law).
    """
    events = sorted(event for history in histories for event in history)
    stop = min(max(moment for moment, change in history if change > 0) for history in histories)
    start = events[0][0] + 0.25 * (stop - events[0][0])
    if stop <= start:
        return 0.0, 0.0
    busy, area, at = 0, 0.0, start
    for moment, change in events:
        if moment > at:
            area += busy * (min(moment, stop) - at)
            at = min(moment, stop)
        busy += change
    mean_time = -sum(moment * change for moment, change in events) / sum(change > 0 for _, change in events)
    return area / (stop - start) / max(mean_time, 1e-6), area / (slots * (stop - start))
