"""Writes a reward model for publishing: a Hugging Face folder with a card that says how to compute its reward."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from vlrm_ray.engines import Completion, LabelTokens, PlainText, Request, chat_tokenization, label_tokens
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.canary import IMAGE, canary_request
from vlrm_ray.reward.model_folder import CARD
from vlrm_ray.reward.weight_writing import write_adapter, write_weights
from vlrm_ray.types import NO, YES


def write_folder(
    module: Any,
    processor: ProcessorMixin,
    folder: Path,
    critique_format: str,
    metadata: dict[str, Any],
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int | None = None,
    initial_model: str = "",
    rank: int = 0,
    world: int = 1,
) -> None:
    """Write weights (safetensors, no pickles), processor, canary image and card; adapters are merged into the weights.

    Collective: all ranks call it with the same arguments. Each writes some of the weight files into its own folder, and
    rank 0 everything else; the folders together are the published one. A rank never holds more than one weight file, of
    which safetensors makes a copy while it writes.

    Args:
        module: an unsharded transformers model, or the module that `sharded_model.shard` returned.
        processor: the model's processor.
        folder: where this rank writes; created if missing.
        critique_format: name of the format the model was trained with.
        metadata: further entries of the card; its `version` seeds the rounding of weights, see `write_weights`.
        dtype: number format in which engines load the model; None for the model's own.
        shard_bytes: most bytes of a weight file, or None; see `write_weights`.
        initial_model: reference of the model that adapters belong to; empty for the folder it was loaded from.
        rank: number of this rank.
        world: number of ranks.
    """
    model: Any = module if isinstance(module, PreTrainedModel) else module.model
    dtype = dtype or next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(model, folder, dtype, shard_bytes, rank, world, int(metadata.get("version", 0)))
    write_adapter(model, folder / "adapter", initial_model, write=rank == 0)
    labels = label_tokens(processor.tokenizer, str(folder))
    canary = _score_canary(module, model, processor, canary_request(str(folder), critique_format), labels)
    if rank:
        return
    _write_config(model if isinstance(model, PreTrainedModel) else model.get_base_model(), folder, dtype)
    processor.save_pretrained(folder)
    _forget_loading(folder / "tokenizer_config.json")
    _canary_image().save(folder / IMAGE)
    card = {
        "schema_version": 1,
        "critique_format": critique_format,
        "ask": FORMATS[critique_format].prompt_template,
        "ask_direct": FORMATS[critique_format].direct_prompt_template,
        "labels": {YES: sorted(labels.yes), NO: sorted(labels.no)},
        "control_tokens": PlainText.of_processor(processor).tokens,
        "reward": "p(Yes) / (p(Yes) + p(No)) at the judgement token; without enough p(Yes) + p(No) there is none",
        "canary": {"image": IMAGE, "yes": canary.yes, "no": canary.no, "dtype": _canary_dtype(module, model)},
        **metadata,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def _canary_dtype(module: Any, model: nn.Module) -> str:
    """Number format in which `_score_canary` computes: a sharded model computes in bfloat16 on GPUs."""
    parameter = next(model.parameters())
    dtype = torch.bfloat16 if module is not model and parameter.is_cuda else parameter.dtype
    return str(dtype).removeprefix("torch.")


def _write_config(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """Write the configurations of a model and of its generation, as transformers' `save_pretrained` does.

    That refuses sampling parameters without `do_sample`, which many models have; they are written as they are.
    """
    config = deepcopy(model.config)
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        if part is not None and (part is config or part.dtype is not None):
            part.dtype = dtype
    config.architectures = [type(model).__name__.removeprefix("FSDP")]
    config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.to_json_file(folder / "generation_config.json", keys_to_pop=["compile_config"])


def _forget_loading(path: Path) -> None:
    """Remove from a tokenizer's configuration how this process loaded it, which is not part of the model."""
    if path.exists():
        content = json.loads(path.read_text())
        kept = {key: value for key, value in content.items() if key not in ("is_local", "local_files_only")}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def _score_canary(
    module: Any, model: nn.Module, processor: ProcessorMixin, request: Request, labels: LabelTokens
) -> Completion:
    """p(Yes) and p(No) of the canary as the next token, by one forward pass of all ranks in transformers."""
    content = [{"type": "image"}, {"type": "text", "text": request.text}]
    chat = [{"role": "user", "content": content}]
    text = str(processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)) + request.prefix
    options = chat_tokenization(processor.tokenizer, text)
    inputs = processor(text=[text], images=[[_canary_image()]], return_tensors="pt", **options)
    inputs = inputs.to(next(model.parameters()).device)
    with torch.no_grad(), _inference(model):
        if module is model:
            logits = model(**inputs).logits
        else:
            logits = module.call_model(**inputs).logits
            module.reshard()
        logprobs = logits[0, -1].float().log_softmax(-1)
    return Completion("", *labels.masses({i: float(logprobs[i]) for i in labels.all}))


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    """Evaluation mode, transformers' own attention, and float32 matrix products at full precision.

    Training on CPU rounds the products to bfloat16, engines do not.
    """
    config, training = model.config, model.training
    precision = torch.get_float32_matmul_precision()
    # with the public set_attn_implementation, transformers looks into the classes' sources, and FSDP2 has changed those
    attention = {name: getattr(config, name)._attn_implementation for name in config.sub_configs}
    attention[""] = config._attn_implementation
    torch.set_float32_matmul_precision("highest")
    config._attn_implementation = "sdpa"
    model.eval()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        config._attn_implementation = attention
        model.train(training)


def _canary_image() -> Image.Image:
    gradient = Image.linear_gradient("L").resize((112, 112))
    return Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180)))
