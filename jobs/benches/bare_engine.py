"""The policy's engine in this process, without Ray: what the generate stage is compared with."""

import os
from collections.abc import Sequence

from vlrm_ray.config import Config
from vlrm_ray.engines import Engine
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.store.rows import Row


def start_bare_engine(config: Config) -> Engine:
    """Start the policy's engine as its actor does, with the same settings and environment."""
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.engine_actors import engine_settings
    from actors.engine_hosts import start_serial

    return start_serial(engine_settings(config.policy.engine, config.policy.model, config.prompts.max_pixels))


def answer(config: Config, engine: Engine, rows: Sequence[Row]) -> int:
    """Answer the requests that the generate stage sends for a part, with the same seeds; returns the number of answers."""
    from vlrm_ray.pipeline.stages.generate import request_of, samples_of, sampling_of

    count = 0
    for condition, n in samples_of(config.policy).items():
        if n:
            requests = [request_of(row.prompt, condition) for row in rows]
            count += sum(map(len, engine.generate(requests, sampling_of(config.policy, n))))
    return count
