"""What both vLLM engines share: their arguments, prompts, sampling parameters and the reading of their outputs.

Everything that depends on the version of vLLM (0.32, CPU and GPU builds) is in this module, `vllm_engine` and
`vllm_async_engine`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlrm_ray import torchvision_shim
from vlrm_ray.engines import (
    Completion,
    EngineSettings,
    LabelTokens,
    PlainText,
    Request,
    Sampling,
    chat_tokenization,
    check_compiler,
    check_cpu_library,
    label_tokens,
)
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.ids import sha256_of
from vlrm_ray.preferences.judgement import judgement_token
from vlrm_ray.store.images import load_in_condition
from vlrm_ray.store.models import local_model
from vlrm_ray.types import YES

torchvision_shim.install()
os.environ.setdefault("VLLM_PLUGINS", "")

import torch  # noqa: E402
from transformers import AutoConfig, AutoProcessor  # noqa: E402
from vllm import ModelRegistry, SamplingParams  # noqa: E402
from vllm.outputs import CompletionOutput  # noqa: E402
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: E402

IMAGE_CACHE_GB, CPU_IMAGE_CACHE_GB = 1.0, 0.125
"""Limit of vLLM's cache of preprocessed images in each of its processes, in GiB, with GPUs and without. The requests about an
image follow one another, so a few images are enough; without GPUs the memory is that of everything else."""
GPU_BATCHED_TOKENS = 8192
"""Tokens of a step on GPUs, as of vLLM's own server; embedded in another program, its engine would take 2,048."""
SMALL_MODEL_BYTES = 1 << 28
"""Models whose weights take less are not compiled on GPUs: that takes longer than it saves."""


class VllmModel:
    """The model of a vLLM engine as its caller sees it: prompts go in, completions come out.

    Attributes:
        settings: settings of the engine.
        folder: folder or hub name of the model.
        has_vision: whether the model takes images.
        labels: token ids of Yes and No.
        plain: makes words of the model's control tokens in a request.
        on_gpu: whether the engine runs on GPUs.
    """

    def __init__(self, settings: EngineSettings) -> None:
        """Load the processor; raises UserError if it cannot be loaded or has no tokens for Yes and No."""
        (check_compiler if settings.gpus else check_cpu_library)()
        self.settings, self.folder = settings, local_model(settings.model)
        try:
            self.processor = AutoProcessor.from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            raise UserError(f"model {self.folder} cannot be loaded: {first_line(error)}") from error
        # AutoProcessor returns the tokenizer itself for a text-only model
        self.has_vision = hasattr(self.processor, "tokenizer")
        self.tokenizer = self.processor.tokenizer if self.has_vision else self.processor
        self.labels: LabelTokens = label_tokens(self.tokenizer, self.folder)
        self.plain = PlainText.of_processor(self.processor)
        self.on_gpu = settings.gpus > 0

    def arguments(self) -> dict[str, Any]:
        """Arguments of vLLM's `LLM` and `AsyncEngineArgs`."""
        s = self.settings
        shared: dict[str, Any] = {
            "model": self.folder,
            "dtype": s.dtype,
            "max_model_len": s.max_model_len,
            "max_num_seqs": s.max_num_seqs,
            # what is never sent is forbidden: vLLM would profile with videos too, which takes time and memory
            "limit_mm_per_prompt": {"image": 1, "video": 0, "audio": 0} if self.has_vision else {},
            "mm_processor_cache_gb": IMAGE_CACHE_GB if self.on_gpu else CPU_IMAGE_CACHE_GB,
            "seed": 0,
            "disable_log_stats": True,
            "tensor_parallel_size": s.tensor_parallel,
            "trust_remote_code": False,
            # in bfloat16, logits of 16 to 32 have steps of an eighth: the log-odds of different responses would often be equal
            "hf_overrides": {} if s.dtype == "float32" else {"head_dtype": "float32"},
        }
        if self.on_gpu:
            small = 0 < _weight_bytes(self.folder) < SMALL_MODEL_BYTES
            return shared | {
                "enforce_eager": small,
                "gpu_memory_utilization": s.memory_share,
                "max_num_batched_tokens": max(GPU_BATCHED_TOKENS, s.max_model_len),
                "enable_prefix_caching": True,
            }
        return shared | {
            "enforce_eager": True,
            "kv_cache_memory_bytes": s.kv_cache_mb << 20,
            "max_num_batched_tokens": max(8192, s.max_model_len),
            # on CPU a seeded request must not be prefilled in chunks, because vLLM's generator has no offset
            "enable_chunked_prefill": False,
            "enable_prefix_caching": False,
            "worker_extension_cls": f"{CpuWeights.__module__}.{CpuWeights.__name__}",
        }

    def sampling_params(self, request: Request, sampling: Sampling) -> SamplingParams:
        """Parameters to generate the answers to a request."""
        schema = sampling.json_schema
        with_probabilities = sampling.judgement != "none" and not schema  # they take a quarter of the CPU time
        return SamplingParams(
            n=sampling.n,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=request.seed if sampling.temperature > 0 else None,
            logprob_token_ids=list(self.labels.all) if with_probabilities else None,
            detokenize=False,  # vLLM would also decode both labels at each token
            structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def score_params(self) -> SamplingParams:
        """Parameters to score the next token of a request."""
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(self.labels.all),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def prompt(self, request: Request) -> dict[str, Any]:
        """Chat prompt of a request, with its prefix and image, as vLLM takes it.

        vLLM identifies the image by a hash of its pixels. So requests with the same image share its preprocessing, its
        embedding and the KV cache of their common beginning. Raises BadImage if the image cannot be used.
        """
        limit = self.settings.max_pixels
        image = load_in_condition(request.image, request.condition, limit) if request.image else None
        text = self._chat(self.plain(request.text), image is not None) + self.plain(request.prefix)
        prompt: dict[str, Any] = {"prompt": text}
        if image is None:
            return prompt
        key = f"{image.width}x{image.height}-{sha256_of(image.tobytes())}"
        return prompt | {"multi_modal_data": {"image": image}, "multi_modal_uuids": {"image": key}}

    def _chat(self, words: str, with_image: bool) -> str:
        """A user's turn as the chat template renders it."""
        parts = [{"type": "text", "text": words}]
        content: Any = [{"type": "image"}, *parts] if with_image else parts if self.has_vision else words
        turn = {"role": "user", "content": content}
        return str(self.processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False))

    @cached_property
    def tokenization(self) -> dict[str, Any]:
        """Arguments with which vLLM tokenizes all prompts; see `chat_tokenization`."""
        return chat_tokenization(self.tokenizer, self._chat("A question", False))

    def completion(self, answer: CompletionOutput) -> Completion:
        """Decoded answer, with p(Yes) and p(No) at the token of its judgement."""
        text, tokens = self._decode(answer.token_ids).strip(), len(answer.token_ids)
        cut = answer.finish_reason == "length"
        found = judgement_token(answer.token_ids, self._decode) if answer.logprobs else None
        if found is None or not answer.logprobs:
            return Completion(text, cut=cut, tokens=tokens)
        index, judgement = found
        return Completion(text, *self._masses(answer.logprobs[index], judgement.word), cut=cut, tokens=tokens)

    def score(self, answer: CompletionOutput) -> Completion:
        """p(Yes) and p(No) of the next token."""
        return Completion("", *self._masses(answer.logprobs[0]), tokens=1)

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _masses(self, logprobs: dict[int, Any], word: str = YES) -> tuple[float, float]:
        return self.labels.masses({token: value.logprob for token, value in logprobs.items()}, word)


def _weight_bytes(folder: str) -> int:
    """Size of a model folder's weights; 0 for the name of a model on the hub."""
    return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))


class CpuWeights:
    """Extension of vLLM's worker, whose methods `collective_rpc` calls by name."""

    def repack_output_layer(self) -> None:
        """Repack a tied output layer, which on CPU keeps its packed copy of the old weights after a reload."""
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        model: torch.nn.Module = self.get_model()  # type: ignore[attr-defined] # a method of the worker
        for name, module in model.named_modules():
            if name.endswith("lm_head") and hasattr(module, "cpu_linear"):
                dispatch_cpu_unquantized_gemm(module, remove_weight=False)


@contextmanager
def settings_refused(folder: str) -> Iterator[None]:
    """Turns vLLM's refusal of a setting into a UserError, such as a `max_model_len` that the model does not have."""
    try:
        yield
    except ValidationError as error:
        causes = "; ".join(str(found["msg"]).removeprefix("Value error, ") for found in error.errors())
        raise UserError(f"vLLM refuses the settings of the engine for the model {folder}: {causes}") from error


def register_model_class(folder: str) -> None:
    """Register the model's class with vLLM, for an engine that runs in this process.

    vLLM would otherwise import the class in a subprocess first, to find out what the model can do. That takes about
    13 s of CPU time unless an earlier engine on the machine has stored the result.
    """
    for name in AutoConfig.from_pretrained(folder).architectures or ():
        if model := ModelRegistry.models.get(name):
            ModelRegistry.register_model(name, model.load_model_cls())
