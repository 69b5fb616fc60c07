"""Calls of engines by the driver, outside the Ray Data graph."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.actor import ActorHandle

from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.pipeline.engine_calls import LeastLoaded, call


async def generate_directly(
    role: str,
    actors: Callable[[], Mapping[int, ActorHandle[Any]]],
    parts: Sequence[Sequence[Request]],
    sampling: Sampling,
    done: Callable[[int], None],
    calls: int,
    timeout: float,
) -> list[list[list[Completion]]]:
    """Answers to parts of some requests, each from the least loaded engine of a role.

    Args:
        role: "policy" or "critic".
        actors: returns the engines at present, by number.
        parts: the requests, in the groups in which they are sent.
        sampling: sampling parameters.
        done: called with the number of requests that have just been answered.
        calls: largest number of calls at the same time.
        timeout: seconds after which a call fails.
    """
    least_loaded, free = LeastLoaded(0), asyncio.Semaphore(calls)

    async def generate(part: Sequence[Request]) -> list[list[Completion]]:
        async with free:
            present = actors()
            least_loaded.resize(max(present) + 1)
            with least_loaded.pick(len(part) * sampling.n, present) as index:
                answers: list[list[Completion]] = await call(
                    present[index].generate,
                    list(part),
                    sampling,
                    timeout=timeout,
                    name=f"{role}-{index}",
                    waiting_for=f"answers to {len(part)} requests",
                )
        done(len(part))
        return answers

    return list(await asyncio.gather(*map(generate, parts)))
