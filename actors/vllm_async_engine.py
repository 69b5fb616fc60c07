"""vLLM's `AsyncLLM`: an engine in a process of its own, which works on many requests at the same time.

    this process: read and decode the image ─► tokenize, preprocess ─► engine process: prefill, decode
                  (threads, a few images)      (vLLM's threads)        (at most max_num_seqs sequences)

Requests are prepared while the engine works on others.
"""

import asyncio
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.continuous_engine import LoadFailed, unless_ended
from actors.start_locks import inspection_lock, start_lock
from actors.vllm_model import VllmModel, settings_refused  # prepares the import of vLLM

# isort: split
from vllm import AsyncEngineArgs, SamplingParams
from vllm.outputs import CompletionOutput
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from vlrm_ray.engines import Completion, EngineDied, EngineSettings, Request, Sampling
from vlrm_ray.errors import last_line

PREPARING_THREADS = max(2, min(8, (os.cpu_count() or 1) // 4))
"""Threads that read and decode images."""
ATTEMPTS = 3
"""How often a request is sent whose image is in the cache of only one of vLLM's two processes."""
CLOSED = "the engine was closed"
"""Why a request failed that was in progress then."""


class AsyncVllm:
    """vLLM engine for many requests at the same time; implements `actors.continuous_engine.Backend`.

    Attributes:
        model: the model, its prompts and outputs.
    """

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model; raises UserError if it cannot be loaded so or has no tokens for Yes and No."""
        self.model = VllmModel(settings)
        # "uni": the model runs in the engine's process, not in a third one
        executor = "uni" if settings.tensor_parallel == 1 else "mp"
        arguments = AsyncEngineArgs(**self.model.arguments(), distributed_executor_backend=executor)
        with settings_refused(self.model.folder), inspection_lock():
            config = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
        with start_lock(settings):
            self._llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        self._ids, self._closing = itertools.count(), False
        self._working = set[asyncio.Task[list[CompletionOutput]]]()
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare")
        self._preparing = asyncio.Semaphore(2 * PREPARING_THREADS)

    async def generate(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Backend.generate`."""
        outputs = await self._outputs(request, self.model.sampling_params(request, sampling))
        return [self.model.completion(output) for output in outputs]

    async def score(self, request: Request) -> Completion:
        """See `Backend.score`."""
        (output,) = await self._outputs(request, self.model.score_params())
        return self.model.score(output)

    async def load(self, folder: str) -> None:
        """See `Backend.load`. Clears the caches of prefixes and image embeddings, which the old weights computed.

        After an error some of the weights may be the new ones, so the engine is closed and counts as ended.
        """
        try:
            await unless_ended(self._load(folder), lambda: self._llm.errored)
        except (EngineDied, EngineDeadError) as error:
            raise self._ended() from error
        except Exception as error:  # of many types
            await self.close()
            raise LoadFailed(f"loading the weights of {folder} failed: {last_line(error)}") from error

    async def _load(self, folder: str) -> None:
        await self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if not self.model.on_gpu:
            await self._llm.collective_rpc("repack_output_layer")
        await self._llm.reset_encoder_cache()
        if not await self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept what the old weights had computed, because requests are in progress")

    async def close(self) -> None:
        """See `Backend.close`. Requests that are in progress fail with EngineDied: none is refused or answered in part."""
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._llm.shutdown)
        for work in list(self._working):  # vLLM never answers what has reached it while it shut down
            work.cancel()

    async def _outputs(self, request: Request, params: SamplingParams) -> list[CompletionOutput]:
        """What the engine makes of a request. It is cancelled when the engine has been closed."""
        if self._closing:
            raise EngineDied(CLOSED)
        work = asyncio.ensure_future(self._attempts(request, params))
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        return await work

    async def _attempts(self, request: Request, params: SamplingParams) -> list[CompletionOutput]:
        try:
            for _ in range(ATTEMPTS):
                prompt = await self._prepared(request)
                results = [result async for result in self._llm.generate(prompt, params, str(next(self._ids)))]
                outputs = [output for result in results for output in result.outputs]
                if self._closing or any(output.finish_reason == "abort" for output in outputs):
                    raise EngineDied(CLOSED)
                if outputs and all(output.finish_reason != "error" for output in outputs):
                    return outputs
        except EngineDied:
            raise
        except Exception as error:  # of many types, also because the engine is shut down meanwhile
            if self._closing:
                raise EngineDied(CLOSED) from error
            if self._llm.errored or isinstance(error, EngineDeadError):
                raise self._ended() from error
            if isinstance(error, EngineGenerateError) and error.__cause__ is not None:
                raise error.__cause__ from None
            raise
        raise RuntimeError("vLLM's engine failed on the request; its log has the cause")

    async def _prepared(self, request: Request) -> Any:
        """The request as vLLM's engine takes it: tokens and the preprocessed image."""
        async with self._preparing:
            loop = asyncio.get_running_loop()
            prompt = await loop.run_in_executor(self._threads, self.model.prompt, request)
            parsed = parse_model_prompt(self._llm.model_config, prompt)
            renderer = self._llm.renderer
            options = renderer.default_cmpl_tok_params.with_kwargs(**self.model.tokenization)
            (prepared,) = await renderer.render_cmpl_async([parsed], options)
            return prepared

    def _ended(self) -> EngineDied:
        """The error for an engine whose processes have ended, with their exit codes if they are known."""
        manager = self._llm.engine_core.resources.engine_manager
        codes = manager.finished_procs() if manager is not None else {}
        listed = ", ".join(f"{name}: exit code {code}" for name, code in codes.items())
        return EngineDied("vLLM's engine process has ended" + (f" ({listed})" if listed else ""))
