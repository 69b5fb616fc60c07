"""Candidates per second of one engine actor, by parts in flight, against the bare `AsyncLLM` on the same requests.

python -m tests.gpu.generation MODEL [PROMPTS]
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from actors.engine_hosts import EngineHost
from vlrm_ray.engines import EngineSettings, Request, Sampling

PART, SAMPLES, TOKENS, PIXELS = 64, 6, 128, 672
SAMPLING = Sampling(TOKENS, 0.9, 0.95, SAMPLES)


@ray.remote(num_gpus=1, max_concurrency=1000)
class MeasuredHost(EngineHost):
    """The engine actor, with a way around everything that the project adds to vLLM."""

    async def bare(self, requests: Sequence[Request], sampling: Sampling) -> int:
        """All requests at once through vLLM's `AsyncLLM`; returns the number of candidates."""
        backend = self.engine.backend

        async def one(index: int, request: Request) -> int:
            prompt = await asyncio.to_thread(backend.model.prompt, request)
            params = backend.model.sampling_params(request, sampling)
            count = 0
            async for result in backend._llm.generate(prompt, params, f"bare-{time.time()}-{index}"):
                count += sum(output.finished() for output in result.outputs)
            return count

        return sum(await asyncio.gather(*(one(i, request) for i, request in enumerate(requests))))

    async def forget(self) -> None:
        """Clear vLLM's caches."""
        await self.engine.backend._llm.reset_encoder_cache()
        await self.engine.backend._llm.reset_prefix_cache()


async def by_parts(host: ray.actor.ActorHandle, requests: list[Request], in_flight: int) -> int:
    """Each request by a call of its own, as in the graph, with so many parts of `PART` requests at the same time."""
    free = asyncio.Semaphore(in_flight)

    async def part(rows: list[Request]) -> int:
        async with free:
            answers = await asyncio.gather(*(host.generate.remote([row], SAMPLING) for row in rows))
            return sum(len(candidates) for answer in answers for candidates in answer)

    parts = [requests[start : start + PART] for start in range(0, len(requests), PART)]
    return sum(await asyncio.gather(*map(part, parts)))


async def measure(model: str, count: int, images: Path) -> dict[str, float]:
    """Candidates per second of each way."""
    settings = EngineSettings("vllm", model, "bfloat16", 4096, 256, 0, 0.85, 1.0, 1, reproducible=False)
    start = time.perf_counter()
    host = MeasuredHost.remote("generator-0", settings)
    health = await host.health.remote()
    assert not health.problem, health.problem
    figures = {"start_seconds": time.perf_counter() - start}
    requests = _requests(count, images)
    await by_parts(host, requests[:16], 1)
    for name, work in {
        "bare": lambda: _await(host.bare.remote(requests, SAMPLING)),
        "parts_in_flight_1": lambda: by_parts(host, requests, 1),
        "parts_in_flight_8": lambda: by_parts(host, requests, 8),
        "bare_again": lambda: _await(host.bare.remote(requests, SAMPLING)),
    }.items():
        await host.forget.remote()
        start = time.perf_counter()
        candidates = await work()
        figures[name] = candidates / (time.perf_counter() - start)
        print(name, candidates, round(figures[name], 2), flush=True)
    start = time.perf_counter()
    await host.load.remote(model)
    figures["reload_seconds"] = time.perf_counter() - start
    await host.close.remote()
    return figures


async def _await(reference: ray.ObjectRef) -> int:
    return await reference


def _requests(count: int, images: Path) -> list[Request]:
    generator = np.random.default_rng(0)
    requests = []
    for number in range(count):
        path = images / f"{number}.jpg"
        noise = generator.integers(0, 255, (84, 84, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((PIXELS, PIXELS)).save(path, quality=85)
        requests.append(Request(f"What is left of the red circle in image {number}?", str(path), seed=number))
    return requests


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        result = asyncio.run(measure(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 256, Path(scratch)))
        print(json.dumps({name: round(value, 3) for name, value in result.items()}))
