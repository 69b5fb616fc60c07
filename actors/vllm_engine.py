"""vLLM's `LLM`: an engine that answers one batch at a time, in the process of its actor."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, overload

from actors.continuous_engine import CHECK_SECONDS
from actors.start_locks import inspection_lock, start_lock
from actors.vllm_model import VllmModel, register_model_class, settings_refused  # prepares the import of vLLM

# isort: split
from vllm import LLM, EngineArgs, SamplingParams
from vllm.v1.engine.core_client import EngineCoreClient, SyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError

from vlrm_ray.engines import Completion, EngineDied, EngineSettings, Request, Sampling


class VllmEngine:
    """vLLM engine for one batch at a time.

    Attributes:
        model: the model, its prompts and outputs.
    """

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model; raises UserError if it cannot be loaded so or has no tokens for Yes and No."""
        self.model = VllmModel(settings)
        arguments = self.model.arguments()
        with settings_refused(self.model.folder):
            if self.model.on_gpu:  # the engine runs in a process of its own
                with inspection_lock():
                    EngineArgs(**arguments).create_model_config()
            else:
                register_model_class(self.model.folder)
            with start_lock(settings):
                self.llm = LLM(**arguments)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`."""
        params = [self.model.sampling_params(request, sampling) for request in requests]
        outputs = self._run(requests, params)
        return [[self.model.completion(answer) for answer in output.outputs] for output in outputs]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine.score`."""
        outputs = self._run(requests, [self.model.score_params()] * len(requests))
        return [self.model.score(output.outputs[0]) for output in outputs]

    def load(self, folder: str) -> None:
        """See `Engine.load`. Clears the caches of prefixes and image embeddings, which the old weights computed."""
        with _death_told(), failing_with_process(self.llm.llm_engine.engine_core):
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            if not self.model.on_gpu:
                self.llm.collective_rpc("repack_output_layer")
            self.llm.llm_engine.reset_encoder_cache()
            self.llm.reset_mm_cache()
            self.llm.reset_prefix_cache()

    def close(self) -> None:
        """See `Engine.close`."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm

    def _run(self, requests: Sequence[Request], params: list[SamplingParams]) -> list[Any]:
        prompts, options = _LazyPrompts(requests, self.model.prompt), self.model.tokenization
        with _death_told():
            outputs: list[Any] = self.llm.generate(prompts, params, use_tqdm=False, tokenization_kwargs=options)
        return outputs


@contextmanager
def failing_with_process(client: EngineCoreClient) -> Iterator[None]:
    """Context manager: calls of methods of the engine's process fail if it ends. vLLM waits for their results for ever.

    Args:
        client: the process as vLLM's `LLM` knows it, or the engine itself if it has no process of its own.
    """
    if not isinstance(client, SyncMPClient):
        yield
        return
    left = threading.Event()

    def watch() -> None:
        while not left.wait(CHECK_SECONDS):
            if client.resources.engine_dead:  # later calls fail by themselves
                for waiting in list(client.utility_results.values()):
                    with suppress(InvalidStateError):  # it has its result
                        waiting.set_exception(EngineDeadError())
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


@contextmanager
def _death_told() -> Iterator[None]:
    """Context manager: raises EngineDied if vLLM says that the engine's process has ended."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineDied("vLLM's engine process has ended; its log has the cause") from error


class _LazyPrompts(Sequence[dict[str, Any]]):
    """Prompts that are made when vLLM takes them, one after the other: only one image is open at a time."""

    def __init__(self, requests: Sequence[Request], make: Callable[[Request], dict[str, Any]]) -> None:
        self.requests, self.make = requests, make

    def __len__(self) -> int:
        return len(self.requests)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> "_LazyPrompts": ...

    def __getitem__(self, index: int | slice) -> "dict[str, Any] | _LazyPrompts":
        chosen = self.requests[index]
        return self.make(chosen) if isinstance(chosen, Request) else _LazyPrompts(chosen, self.make)
