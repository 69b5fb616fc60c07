"""Writes a reward model for publishing: a Hugging Face folder with a card that says how to compute its reward."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from vlrm_ray.engines import Completion, LabelTokens, Request, label_tokens
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.canary import IMAGE, canary_request
from vlrm_ray.reward.model_folder import CARD
from vlrm_ray.store.images import open_image
from vlrm_ray.types import NO, YES


def write_folder(
    model: PreTrainedModel, processor: ProcessorMixin, folder: Path, critique_format: str, metadata: dict[str, Any]
) -> None:
    """Write weights (safetensors, no pickles), processor, canary image and card.

    Args:
        model: model in evaluation mode, in the number format in which engines load it.
        processor: its processor.
        folder: where to write; created if missing.
        critique_format: name of the format the model was trained with.
        metadata: further entries of the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _forget_loading(folder / "tokenizer_config.json")
    _canary_image().save(folder / IMAGE)
    labels = label_tokens(processor.tokenizer, str(folder))
    canary = score(model, processor, canary_request(str(folder), critique_format), labels)
    card = {
        "schema_version": 1,
        "critique_format": critique_format,
        "ask": FORMATS[critique_format].prompt_template,
        "ask_direct": FORMATS[critique_format].direct_prompt_template,
        "labels": {YES: sorted(labels.yes), NO: sorted(labels.no)},
        "reward": "p(Yes) / (p(Yes) + p(No)) at the judgement token; without enough p(Yes) + p(No) there is none",
        "canary": {"image": IMAGE, "yes": canary.yes, "no": canary.no},
        **metadata,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def _forget_loading(path: Path) -> None:
    """Remove from a tokenizer's configuration how this process loaded it, which is not part of the model."""
    if path.exists():
        content = json.loads(path.read_text())
        kept = {key: value for key, value in content.items() if key not in ("is_local", "local_files_only")}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def score(model: PreTrainedModel, processor: ProcessorMixin, request: Request, labels: LabelTokens) -> Completion:
    """p(Yes) and p(No) as the next token, by one forward pass in transformers; the request must have an image."""
    assert request.image is not None
    content = [{"type": "image"}, {"type": "text", "text": request.text}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    image = open_image(request.image)
    inputs = processor(text=[str(text) + request.prefix], images=[[image]], return_tensors="pt").to(model.device)
    with torch.inference_mode(), _full_precision():
        logprobs = model(**inputs).logits[0, -1].float().log_softmax(-1)
    return Completion("", *labels.masses({i: float(logprobs[i]) for i in labels.all}))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute float32 matrix products at full precision: training on CPU rounds them to bfloat16, engines do not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _canary_image() -> Image.Image:
    gradient = Image.linear_gradient("L").resize((112, 112))
    return Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180)))
