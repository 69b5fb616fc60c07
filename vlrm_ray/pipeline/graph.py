"""The Ray Data graph of a round: from prompts to committed parts, in one streaming execution.

    prompts ─► ingest ─► generate ─► detect ─► read ─► (self-label) ─► verify + pair ─► critique + select ─► commit ─► tallies

`read` runs only with `experts.reader.enabled`, `self-label` only with `pairing.labels: self`; `stages/` has a table of what
each stage reads and writes.

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
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext

from vlrm_ray.config import Config, Experts
from vlrm_ray.config_resources import Pool, Role
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages import (
    Commit,
    Critique,
    EnginePool,
    Generate,
    Ingest,
    SelfLabel,
    VerifyAndPair,
    prompt_table,
)
from vlrm_ray.pipeline.stages.critics import BASE, NEWEST, Critics
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import model_fingerprint, portable
from vlrm_ray.types import PromptRef

NO_PROGRESS_SECONDS = 3600
"""Time without any finished task after which Ray Data gives up."""


def configure_ray_data(verbosity: int = 0) -> None:
    """Configure Ray Data for parts as blocks, without its own progress output. Call once, in the driver.

    Args:
        verbosity: `cluster.verbosity`: which of its messages are printed.
    """
    logging.getLogger("ray.data").setLevel((logging.ERROR, logging.WARNING, logging.INFO)[verbosity])
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    context.target_max_block_size = None  # a part is never split


def build_graph(
    config: Config,
    round_: int,
    parts: dict[int, list[PromptRef]],
    stage_actors: StageActors,
    ledger: Ledger,
    store: Ledger,
) -> ray.data.Dataset:
    """Build the lazy dataset of a round; iterating over it runs all stages and yields tables of `Tally`.

    Args:
        config: configuration of the run.
        round_: number of the round.
        parts: prompts by part number; each part becomes one block.
        stage_actors: the actors to work with.
        ledger: where the parts are committed.
        store: ledger that caches the experts' evidence and, with `config.cache`, the candidates.
    """
    config = config.model_copy(update={"experts": _portable(config.experts)})
    board, detector, reader = stage_actors.board, config.experts.detector, config.experts.reader
    model = model_fingerprint(config.policy.model) if config.cache and config.policy.samples else ""
    pools, in_flight = config.cluster.stages, config.cluster.parts_in_flight
    policy = _engine_pool("policy", config, stage_actors)
    critics = _critics(config, stage_actors)
    in_pool = partial(_map_in_pool, config.cluster.labels)
    rows = ray.data.from_arrow([prompt_table(part, prompt_refs) for part, prompt_refs in parts.items()])
    rows = in_pool(rows, Ingest, (round_, config, board, store), pools.ingest)
    cache = store if config.cache else None
    rows = in_pool(rows, Generate, (config, policy, cache, model), pools.generate, in_flight)
    rows = in_pool(rows, stage_actors.detector, (detector, store, board), detector.pool, role="expert")
    if reader.enabled:
        rows = in_pool(rows, stage_actors.reader, (reader, store, board), reader.pool, role="expert")
    if config.pairing.labels == "self":
        rows = in_pool(rows, SelfLabel, (config, critics.judges), pools.critique, in_flight)
    rows = in_pool(rows, VerifyAndPair, (config, stage_actors), pools.verify)
    rows = in_pool(rows, Critique, (config, critics, stage_actors), pools.critique, in_flight)
    return in_pool(rows, Commit, (config, ledger), pools.commit)


def _portable(experts: Experts) -> Experts:
    """The experts with references to their models that mean the same in other processes."""
    detector, reader = experts.detector, experts.reader
    folders = {
        key: portable(name) for key in ("detection_model", "recognition_model") if (name := getattr(reader, key))
    }
    return experts.model_copy(
        update={
            "detector": detector.model_copy(update={"model": portable(detector.model)}),
            "reader": reader.model_copy(update=folders),
        }
    )


def _engine_pool(role: str, config: Config, stage_actors: StageActors, indices: Sequence[int] = ()) -> EnginePool:
    """The engines of a role, or those with some indices."""
    actors, engine = {
        "policy": (stage_actors.policy, config.policy.engine),
        "critic": (stage_actors.critics, config.critic.engine),
    }[role]
    named = {f"{role}-{index}": actors[index] for index in indices or range(len(actors))}
    timeout = config.cluster.call_timeout
    return EnginePool(named, stage_actors.board, reproducible=engine.is_reproducible, timeout=timeout)


def _critics(config: Config, stage_actors: StageActors) -> Critics:
    """The critics by the version that they hold."""
    versions = list(stage_actors.critic_versions) or [0] * len(stage_actors.critics)
    newest = max(versions)
    judges = _engine_pool("critic", config, stage_actors, [i for i, v in enumerate(versions) if v == newest])
    if newest == 0 or config.critic.writer == NEWEST:
        return Critics({NEWEST if config.critic.writer == NEWEST else BASE: judges}, judges)
    base = _engine_pool("critic", config, stage_actors, [i for i, v in enumerate(versions) if v == 0])
    return Critics({BASE: base, NEWEST: judges} if config.critic.writer == "mixed" else {BASE: base}, judges)


def _map_in_pool(
    labels: Mapping[Role, Mapping[str, str]],
    rows: ray.data.Dataset,
    stage: type,
    arguments: tuple[Any, ...],
    pool: Pool,
    in_flight: int = 1,
    role: Role = "cpu",
) -> ray.data.Dataset:
    """Add a stage whose actors are on the nodes of `role`."""
    return rows.map_batches(
        stage,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=pool.min, max_size=pool.max, max_concurrent_calls_per_actor=in_flight),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
        label_selector=dict(labels.get(role, {})) or None,
    )
