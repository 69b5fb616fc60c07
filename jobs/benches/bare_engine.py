"""The policy's engine in this process, without Ray: what the generate stage is compared with."""

import os
from collections.abc import Sequence

from vlrm_ray.config import Config
from vlrm_ray.engines import Engine, Request, Sampling
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.store.rows import Row
from vlrm_ray.types import ImageCondition


def start_bare_engine(config: Config) -> Engine:
    """Start the policy's engine as its actor does, with the same settings and environment."""
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.engine_actors import engine_settings
    from actors.engine_hosts import start_serial

    return start_serial(engine_settings(config.policy.engine, config.policy.model, config.prompts.max_pixels))


def answer(config: Config, engine: Engine, rows: Sequence[Row]) -> int:
    """Answer the requests that the generate stage sends for a part, with the same seeds; returns the number of answers."""
    policy, count = config.policy, 0
    for condition, n in (
        (ImageCondition.FULL, policy.samples),
        (ImageCondition.IMAGE_FREE, policy.image_free),
        (ImageCondition.IMAGE_DEGRADED, policy.image_degraded),
    ):
        if n:
            requests = [
                Request(
                    row.prompt.question, row.prompt.image, condition, seed_of("sample", row.prompt.prompt_id, condition)
                )
                for row in rows
            ]
            count += sum(map(len, engine.generate(requests, sampling(config, n))))
    return count


def sampling(config: Config, n: int) -> Sampling:
    """How the policy samples `n` answers."""
    policy = config.policy
    return Sampling(policy.max_tokens, policy.temperature, policy.top_p, n, judgement="none")
