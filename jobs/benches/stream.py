"""The stream of a round without models: how it scales with engines that answer after a fixed time.

The graph, its stages, the ledger and Ray are those of a run. Only the engines and the experts are simulated, so that the
figures are those of the orchestration: its efficiency, its CPU time, and the size of what travels.
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from vlrm_ray.config import Config, load
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import EVIDENCE, PROMPT, Row, to_table
from vlrm_ray.types import Candidate, ImageCondition, Prompt, PromptRef

ROOT = Path(__file__).resolve().parents[2]
SLOTS, SECONDS = 16, 2.0
"""Sequences that a simulated engine decodes at the same time, and the time of each."""
GENERATORS = (1, 2, 4, 8, 16)
PROMPTS_PER_GENERATOR = 40
LONG_SHARE = 0.02
"""Share of responses that take ten times as long, in the measurement of what they cost the others."""
OVERRIDES = (
    "policy.samples=8", "policy.image_free=0", "policy.image_degraded=0", "policy.engine.reproducible=false",
    "critic.k=1", "critic.engine.reproducible=false", "part_rows=16", "experts.reader.enabled=true",
    "cluster.stages.generate.max=2", "cluster.stages.verify.max=4", "cluster.stages.critique.max=2",
)  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """What one run of the graph gave.

    Attributes:
        rate: candidates per second in the steady state.
        slots_busy: share of the engines' slots that were busy then, 0 to 1.
        prompts_per_second: prompts over the whole run, with the start of the pools.
        bytes_per_candidate: Arrow bytes per candidate beyond its texts.
        driver_mb: memory that the driver has gained at its peak, in MiB.
    """

    rate: float
    slots_busy: float
    prompts_per_second: float
    bytes_per_candidate: float
    driver_mb: float


def measure_stream(progress: Progress, generators: Sequence[int] = GENERATORS) -> dict[str, Any]:
    """Measure the scaling from the first to the last number of generators, and what long responses cost."""
    figures: dict[str, Any] = {"verify_prompts_per_second_core": round(verify_rate(), 1)}
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp") as scratch, _cluster(scratch):
        rates = {}
        for count in generators:
            with progress.stage(f"{count} generators") as meter:
                found = _run(Path(scratch), count, count * PROMPTS_PER_GENERATOR, SECONDS)
                rates[count] = found.rate / count
                meter.set_summary(f"{found.rate:.1f} candidates/s, {found.slots_busy:.1%} of the slots busy")
        figures["scaling"] = {str(count): round(rate / rates[generators[0]], 4) for count, rate in rates.items()}
        figures["slots_busy"] = round(found.slots_busy, 4)
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
            with progress.stage(f"{count} prompts") as meter:
                found = _run(Path(scratch), 2, count, 0.0)
                meter.set_summary(f"{found.prompts_per_second:.1f} prompts/s, driver +{found.driver_mb:.0f} MiB")
            figures[str(count)] = {
                "prompts_per_second": round(found.prompts_per_second, 1),
                "driver_mb": round(found.driver_mb, 1),
                "bytes_per_candidate": round(found.bytes_per_candidate, 1),
            }
    return figures


def verify_rate(prompts: int = 64) -> float:
    """Prompts per CPU second of the verify and pair stage, each with 8 responses of 60 words."""
    from tests.simulated import OBJECTS, response, verifier
    from vlrm_ray.pipeline.stage_actors import StageActors
    from vlrm_ray.pipeline.stages import VerifyAndPair

    rows = [
        Row(0, 1, Prompt(f"p{i}", "a.png", "0", "Describe the image."), "", prompts, 8,
            tuple(Candidate(f"{i}-{c}", response(random.Random(f"{i}-{c}")), ImageCondition.FULL) for c in range(8)),
            64, 64, OBJECTS)
        for i in range(prompts)
    ]  # fmt: skip
    table = to_table(rows, [*PROMPT, "asked", "candidates", *EVIDENCE])
    board: Any = _NoBoard()
    stage = VerifyAndPair(load(None, []), StageActors([], [], object, object, board, None, verifier()))
    stage(table.slice(0, 1))
    start = time.process_time()
    stage(table.slice(1))
    return (prompts - 1) / (time.process_time() - start)


class _NoBoard:
    def add(self, *_: object) -> None: ...


@contextmanager
def _cluster(scratch: str) -> Iterator[None]:
    """A Ray cluster of a head and two more nodes on this machine, with more logical than real CPUs."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_TMPDIR"] = scratch
    Path(scratch, "ray").mkdir()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_USE_DATASOURCE_V2", "0")
    node = {"num_cpus": 16, "object_store_memory": 300 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def _run(scratch: Path, generators: int, prompts: int, seconds: float, long_share: float = 0.0) -> Measurement:
    import ray

    from actors.progress_board import ProgressBoard
    from tests.simulated import SimulatedDetector, SimulatedEngine, SimulatedReader, verifier
    from vlrm_ray.pipeline.graph import build_graph, configure_ray_data
    from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors
    from vlrm_ray.pipeline.stages import Tally

    configure_ray_data()
    config, ledger = load(None, OVERRIDES), Ledger(str(scratch / f"run-{generators}-{prompts}-{time.time()}"))
    engine = ray.remote(SimulatedEngine).options(num_cpus=0.1, max_concurrency=1000)
    policy = [engine.remote(SLOTS, seconds, long_share=long_share) for _ in range(generators)]
    critics = [engine.remote(4 * SLOTS, seconds / 4, critic=True) for _ in range(max(1, generators // 2))]
    board = ray.remote(ProgressBoard).options(num_cpus=0).remote()
    reporter = ProgressReporter(board)
    stage_actors = StageActors(policy, critics, SimulatedDetector, SimulatedReader, reporter, None, verifier())
    ray.get([actor.history.remote() for actor in (*policy, *critics)])  # all have started
    before, peak, start = psutil.Process().memory_info().rss, 0, time.monotonic()
    parts = _parts(config, scratch, prompts)
    done = 0
    graph = build_graph(config, 1, parts, stage_actors, ledger, ledger)
    for table in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        done += sum(tally.prompts for tally in Tally.of_table(table))
        peak = max(peak, psutil.Process().memory_info().rss)
    wall = time.monotonic() - start
    assert done == prompts, f"{done} of {prompts} prompts arrived"
    rate, busy = _steady_state(ray.get([actor.history.remote() for actor in policy]), SLOTS * generators)
    for actor in (*policy, *critics, board):
        ray.kill(actor)
    markers = ledger.part_markers(1).values()
    excess = sum(marker["wire_bytes"] - marker["text_bytes"] for marker in markers)
    candidates = sum(marker["row_counts"]["generate"]["kept"] for marker in markers)
    return Measurement(rate, busy, prompts / wall, excess / candidates, (peak - before) / 2**20)


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


def _steady_state(histories: Sequence[tuple[list[tuple[float, int]], list[float]]], slots: int) -> tuple[float, float]:
    """Sequences per second and the share of busy slots, while the engines are filled and requests wait for them.

    The first quarter is left out, and so is the time after the last sequence has started.
    """
    ends = sorted(end for _, engine_ends in histories for end in engine_ends)
    events = sorted(event for engine_events, _ in histories for event in engine_events)
    first, stop = events[0][0], max(moment for moment, change in events if change > 0)
    start = first + 0.25 * (stop - first)
    if stop <= start:
        return 0.0, 0.0
    busy, area, at = 0, 0.0, start
    for moment, change in events:
        if moment > at:
            area += busy * (min(moment, stop) - at)
            at = min(moment, stop)
        busy += change
    rate = sum(start <= end < stop for end in ends) / (stop - start)
    return rate, area / (slots * (stop - start))
