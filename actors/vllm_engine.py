"""Adapter for vLLM 0.32, CPU and GPU builds. Everything that depends on the vLLM version is in this module."""

import os
from collections.abc import Callable, Sequence
from typing import Any, overload

from vlrm_ray import torchvision_shim
from vlrm_ray.engines import Completion, EngineSettings, LabelTokens, PlainText, Request, Sampling, label_tokens
from vlrm_ray.errors import UserError
from vlrm_ray.preferences.judgement import judgement_token
from vlrm_ray.store.images import load_in_condition
from vlrm_ray.types import YES

torchvision_shim.install()
os.environ.setdefault("VLLM_PLUGINS", "")

import torch  # noqa: E402
from transformers import AutoProcessor  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402
from vllm.outputs import CompletionOutput  # noqa: E402
from vllm.sampling_params import StructuredOutputsParams  # noqa: E402
from vllm.v1.engine.exceptions import EngineDeadError  # noqa: E402


class VllmEngine:
    """vLLM engine in the process of its actor.

    Attributes:
        has_vision: whether the model takes images.
        labels: token ids of Yes and No.
        plain: makes words of the model's control tokens in a request.
    """

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model; raises UserError if it cannot be loaded or has no tokens for Yes and No."""
        self.settings = settings
        try:
            self.processor = AutoProcessor.from_pretrained(settings.model)
        except (OSError, ValueError) as error:
            raise UserError(f"model {settings.model} cannot be loaded: {str(error).splitlines()[0]}") from error
        # AutoProcessor returns the tokenizer itself for a text-only model
        self.has_vision = hasattr(self.processor, "tokenizer")
        self.tokenizer = self.processor.tokenizer if self.has_vision else self.processor
        self.labels: LabelTokens = label_tokens(self.tokenizer, settings.model)
        self.plain = PlainText.of_processor(self.processor)
        self.on_gpu = settings.gpus > 0
        self.llm = LLM(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        s = self.settings
        shared: dict[str, Any] = {
            "model": s.model,
            "dtype": s.dtype,
            "max_model_len": s.max_model_len,
            "max_num_seqs": s.max_num_seqs,
            "limit_mm_per_prompt": {"image": 1} if self.has_vision else {},
            "seed": 0,
            "disable_log_stats": True,
            "tensor_parallel_size": s.tensor_parallel,
            "trust_remote_code": False,
        }
        if self.on_gpu:
            return shared | {"gpu_memory_utilization": s.gpu_memory, "enable_prefix_caching": True}
        return shared | {
            "enforce_eager": True,
            "kv_cache_memory_bytes": s.kv_cache_mb << 20,
            "max_num_batched_tokens": max(8192, s.max_model_len),
            # on CPU a seeded request must not be prefilled in chunks, because vLLM's generator has no offset
            "enable_chunked_prefill": False,
            "enable_prefix_caching": False,
        }

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`."""
        schema = sampling.json_schema
        params = [
            SamplingParams(
                n=sampling.n,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=request.seed if sampling.temperature > 0 else None,
                logprob_token_ids=list(self.labels.all),
                detokenize=False,  # vLLM would also decode both labels at each token
                structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
            )
            for request in requests
        ]
        outputs = self._run(requests, params)
        return [[self._completion(answer) for answer in output.outputs] for output in outputs]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine.score`."""
        params = SamplingParams(
            max_tokens=1, temperature=0.0, logprob_token_ids=list(self.labels.all), detokenize=False
        )
        outputs = self._run(requests, [params] * len(requests))
        return [Completion("", *self._masses(output.outputs[0].logprobs[0])) for output in outputs]

    def load(self, folder: str) -> None:
        """See `Engine.load`. Clears the caches of prefixes and image embeddings, which the old weights computed."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if not self.on_gpu:
            self.llm.apply_model(_repack_output_layer)
        self.llm.llm_engine.reset_encoder_cache()
        self.llm.reset_mm_cache()
        self.llm.reset_prefix_cache()

    def close(self) -> None:
        """See `Engine.close`."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm

    def _run(self, requests: Sequence[Request], params: list[SamplingParams]) -> list[Any]:
        try:
            prompts = _LazyPrompts(requests, self._prompt)
            outputs: list[Any] = self.llm.generate(prompts, params, use_tqdm=False)
            return outputs
        except EngineDeadError:
            os._exit(1)  # so that Ray restarts the actor; an actor with a dead engine would fail all later calls

    def _prompt(self, request: Request) -> dict[str, Any]:
        """Chat prompt of a request, with its prefix and image, as vLLM takes it."""
        image = load_in_condition(request.image, request.condition) if request.image else None
        words = self.plain(request.text)
        parts = [{"type": "text", "text": words}]
        content: Any = [{"type": "image"}, *parts] if image is not None else parts if self.has_vision else words
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        prompt: dict[str, Any] = {"prompt": text + self.plain(request.prefix)}
        return prompt | {"multi_modal_data": {"image": image}} if image is not None else prompt

    def _completion(self, answer: CompletionOutput) -> Completion:
        """Decoded answer, with p(Yes) and p(No) at the token of its judgement."""
        text = self._decode(answer.token_ids).strip()
        found = judgement_token(answer.token_ids, self._decode)
        if found is None or not answer.logprobs:
            return Completion(text)
        index, judgement = found
        return Completion(text, *self._masses(answer.logprobs[index], judgement.word))

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _masses(self, logprobs: dict[int, Any], word: str = YES) -> tuple[float, float]:
        return self.labels.masses({token: value.logprob for token, value in logprobs.items()}, word)


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


def _repack_output_layer(model: torch.nn.Module) -> None:
    """Repack a tied output layer on CPU, which keeps its packed copy of the old weights after a reload."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for name, module in model.named_modules():
        if name.endswith("lm_head") and hasattr(module, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)
