"""The Ray Data graph of a round: from prompts to committed parts, in one streaming execution.

    prompts ─► ingest ─► generate ─► detect ─► read ─► (self-label) ─► verify + pair ─► critique + select ─► commit ─► tallies

`read` runs only with `experts.reader.enabled`, `self-label` only with `pairing.labels: self`; `stages/` has a table of what
each stage reads and writes.

The graph can be cut before the first stage that asks the critics. With `cluster.overlap` the stages before the cut run
ahead, while the round before trains, and commit prepared parts; the others start from these.

A block of the dataset is one part: `part_rows` prompts that pass all stages together, in any order of parts. Parts are
committed, or made again, as a whole. The driver gets one small row for each of them.

All stages are actor pools, sized by `cluster.stages` and the experts' pools: for tasks, Ray would start as many processes
as there are parts and free logical CPUs, and each of them imports the project's libraries first.

Backpressure: the pools that wait for engines have `cluster.parts_in_flight` parts at a time in each actor, so that
engines always have requests waiting. Further parts wait in the object store, whose size Ray Data limits by pausing the
stages before.

Actor classes and handles are arguments: this module imports no engine library.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext

from vlrm_ray.config import Config, Experts
from vlrm_ray.config_sections import Cluster, Pool, Role
from vlrm_ray.experts.calibration import portable_calibration
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages import (
    Commit,
    CommitCandidates,
    Critique,
    EnginePool,
    Generate,
    Ingest,
    ReadCandidates,
    SelfLabel,
    VerifyAndPair,
    part_table,
    prompt_table,
)
from vlrm_ray.pipeline.stages.critics import BASE, NEWEST, Critics
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import model_fingerprint, portable
from vlrm_ray.store.prepared_parts import PreparedParts
from vlrm_ray.types import PromptRef

Parts = Mapping[int, Sequence[PromptRef]]
"""Prompts by part number."""
NO_PROGRESS_SECONDS = 3600
"""Least time without any finished task after which Ray Data gives up."""


def configure_ray_data(cluster: Cluster) -> None:
    """Configure Ray Data for parts as blocks, without its own progress output. Call once, in the driver.

    It gives up later than the calls of engines do, and the start of engines, whose messages tell more.

    Args:
        cluster: `verbosity` says which of its messages are printed, and the timeouts when it gives up.
    """
    # its errors are raised in the driver too
    logging.getLogger("ray.data").setLevel((logging.CRITICAL, logging.WARNING, logging.INFO)[cluster.verbosity])
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    context.execution_no_progress_timeout_s = max(
        NO_PROGRESS_SECONDS, 2 * cluster.call_timeout, 2 * cluster.start_timeout
    )
    context.target_max_block_size = None  # a part is never split


@dataclass(frozen=True)
class _Step:
    """A stage of the graph.

    Attributes:
        stage: its class.
        arguments: the arguments of its constructor.
        pool: size of its actor pool.
        in_flight: parts that each actor has at a time.
        gpus: GPUs of each actor.
        role: the role whose nodes the actors are on.
        labels: label selector of these nodes; None for any node.
    """

    stage: type
    arguments: tuple[Any, ...]
    pool: Pool
    in_flight: int = 1
    gpus: float = 0
    role: Role = "cpu"
    labels: dict[str, str] | None = None


def build_graph(
    config: Config,
    round_: int,
    parts: Parts,
    stage_actors: StageActors,
    ledger: Ledger,
    store: Ledger,
    prepared: Collection[int] = (),
) -> ray.data.Dataset:
    """Build the lazy dataset of a round; iterating over it runs all stages and yields tables of `Tally`.

    Args:
        config: configuration of the run.
        round_: number of the round.
        parts: prompts by part number; each part becomes one block.
        stage_actors: the actors to work with.
        ledger: where the parts are committed.
        store: ledger that caches the experts' evidence and, with `config.cache`, the candidates.
        prepared: numbers of parts whose candidates `build_candidates_graph` has committed: they go on from there.
    """
    candidates, critiques = _steps(config, round_, stage_actors, ledger, store)
    read = _Step(ReadCandidates, (PreparedParts(ledger, round_),), config.cluster.stages.ingest)
    branches = []
    if fresh := {part: refs for part, refs in parts.items() if part not in prepared}:
        branches.append(_through(_prompts(fresh), candidates))
    if ready := [part for part in parts if part in prepared]:
        branches.append(_through(ray.data.from_blocks([part_table(part) for part in ready]), [read]))
    rows = branches[0].union(*branches[1:]) if len(branches) > 1 else branches[0]
    return _through(rows, critiques)


def build_candidates_graph(
    config: Config, round_: int, parts: Parts, stage_actors: StageActors, ledger: Ledger, store: Ledger
) -> ray.data.Dataset:
    """Build the lazy dataset of the stages that need no critic; it commits prepared parts. The arguments are as above."""
    candidates, _ = _steps(config, round_, stage_actors, ledger, store)
    commit = _Step(CommitCandidates, (PreparedParts(ledger, round_),), config.cluster.stages.commit)
    return _through(_prompts(parts), [*candidates, commit])


def _steps(
    config: Config, round_: int, stage_actors: StageActors, ledger: Ledger, store: Ledger
) -> tuple[list[_Step], list[_Step]]:
    """The stages of a round in two groups: those before the first one that asks the critics, and the others."""
    config = config.model_copy(update={"experts": _portable(config.experts)})
    board, detector, reader = stage_actors.board, config.experts.detector, config.experts.reader
    model = model_fingerprint(config.policy.model) if config.cache and config.policy.samples else ""
    pools, in_flight = config.cluster.stages, config.cluster.parts_in_flight
    policy = EnginePool.of("policy", config, stage_actors)
    critics = _critics(config, stage_actors)
    cache = store if config.cache else None
    steps = [
        _Step(Ingest, (round_, config, board, store), pools.ingest),
        _Step(Generate, (config, policy, cache, model), pools.generate, in_flight),
        _Step(stage_actors.detector, (detector, store, board), detector.pool, gpus=detector.pool.gpus, role="expert"),
    ]
    if reader.enabled:
        steps.append(
            _Step(stage_actors.reader, (reader, store, board), reader.pool, gpus=reader.pool.gpus, role="expert")
        )
    if config.pairing.labels == "self":
        steps.append(_Step(SelfLabel, (config, critics.judges), pools.critique, in_flight))
    steps += [
        _Step(VerifyAndPair, (config, stage_actors), pools.verify),
        _Step(Critique, (config, critics, stage_actors), pools.critique, in_flight),
        _Step(Commit, (config, ledger), pools.commit),
    ]
    first = next(index for index, step in enumerate(steps) if step.stage in (SelfLabel, Critique))
    nodes = {role: dict(config.cluster.labels.get(role, {})) or None for role in ("cpu", "expert")}
    steps = [replace(step, labels=nodes[step.role]) for step in steps]
    return steps[:first], steps[first:]


def _prompts(parts: Parts) -> ray.data.Dataset:
    """The prompts, each part as a block.

    `from_arrow` would start a task of one CPU for each block, for which an autoscaler would start all nodes that it may.
    """
    return ray.data.from_blocks([prompt_table(part, prompt_refs) for part, prompt_refs in parts.items()])


def _through(rows: ray.data.Dataset, steps: Sequence[_Step]) -> ray.data.Dataset:
    """The rows after some stages.

    `map_batches` with GPUs wants a batch size, by which it would join a short part with the next one. What it calls, and
    `map_groups` too, takes a block as a batch.
    """
    for step in steps:
        pool = step.pool
        rows = rows.map_batches_internal(
            step.stage,
            fn_constructor_args=step.arguments,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=pool.min, max_size=pool.max, max_concurrent_calls_per_actor=step.in_flight
            ),
            num_cpus=pool.cpus,
            num_gpus=step.gpus or None,
            label_selector=step.labels,
        )
    return rows


def _portable(experts: Experts) -> Experts:
    """The experts with references to their models and calibration that mean the same in other processes."""
    detector, reader = experts.detector, experts.reader
    folders = {
        key: portable(name) for key in ("detection_model", "recognition_model") if (name := getattr(reader, key))
    }
    files = {
        "model": portable(detector.model),
        "calibration": portable_calibration(detector.model, detector.calibration),
    }
    return experts.model_copy(
        update={"detector": detector.model_copy(update=files), "reader": reader.model_copy(update=folders)}
    )


def _critics(config: Config, stage_actors: StageActors) -> Critics:
    """The critics by the version that they hold."""
    versions = list(stage_actors.critic_versions) or [0] * len(stage_actors.critics)
    newest = max(versions)
    judges = EnginePool.of("critic", config, stage_actors, [i for i, v in enumerate(versions) if v == newest])
    if newest == 0 or config.critic.writer == NEWEST:
        return Critics({NEWEST if config.critic.writer == NEWEST else BASE: judges}, judges)
    alone = replace(stage_actors, directory=None)  # engines that start later hold the newest version
    base = EnginePool.of("critic", config, alone, [i for i, v in enumerate(versions) if v == 0])
    return Critics({BASE: base, NEWEST: judges} if config.critic.writer == "mixed" else {BASE: base}, judges)
