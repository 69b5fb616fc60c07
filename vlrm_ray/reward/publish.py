"""A published reward model: a Hugging Face folder, and what a user must know to get its rewards."""

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
from vlrm_ray.reward.canary import IMAGE, request
from vlrm_ray.reward.model_folder import CARD
from vlrm_ray.types import NO, YES


def write_folder(
    model: PreTrainedModel, processor: ProcessorMixin, folder: Path, wording: str, facts: dict[str, Any]
) -> None:
    """Write weights, processor, canary and card. The folder holds safetensors, no pickles."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _canary_image().save(folder / IMAGE)
    labels = label_tokens(processor.tokenizer, str(folder))
    canary = score(model, processor, request(str(folder), wording), labels)
    card = {
        "schema_version": 1,
        "critique_format": wording,
        "ask": FORMATS[wording].ask,
        "ask_direct": FORMATS[wording].ask_direct,
        "labels": {YES: sorted(labels.yes), NO: sorted(labels.no)},
        "reward": "p(Yes) / (p(Yes) + p(No)) at the judgement token; without enough p(Yes) + p(No) there is none",
        "canary": {"image": IMAGE, "yes": canary.yes, "no": canary.no},
        **facts,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def score(model: PreTrainedModel, processor: ProcessorMixin, asked: Request, labels: LabelTokens) -> Completion:
    """p(Yes) and p(No) as the next token, by one forward pass of transformers."""
    assert asked.image is not None
    content = [{"type": "image"}, {"type": "text", "text": asked.text}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    image = Image.open(asked.image).convert("RGB")
    inputs = processor(text=[str(text) + asked.prefix], images=[[image]], return_tensors="pt").to(model.device)
    with torch.inference_mode(), _full_precision():
        logprobs = model(**inputs).logits[0, -1].float().log_softmax(-1)
    return Completion("", *labels.masses({i: float(logprobs[i]) for i in labels.all}))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 products at full precision; training on a CPU rounds them to bfloat16, which engines do not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _canary_image() -> Image.Image:
    across = Image.linear_gradient("L").resize((112, 112))
    return Image.merge("RGB", (across, across.rotate(90), across.rotate(180)))
