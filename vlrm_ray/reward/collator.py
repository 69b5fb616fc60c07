"""Examples as tensors."""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import ProcessorMixin

from vlrm_ray.engines import LabelTokens, label_tokens
from vlrm_ray.reward.examples import Example
from vlrm_ray.store.images import load

BLANK = Image.new("RGB", (56, 56), (128, 128, 128))


class Collator:
    """Turns examples into model inputs, with a weight for each token to learn.

    Each batch holds at least one picture: under FSDP all workers must run the vision tower in every
    micro-batch, or those that do wait for ever for those that do not. A batch without any gets an
    extra row with a blank one and no weight.
    """

    def __init__(self, processor: ProcessorMixin, model: str, judgement_weight: float) -> None:
        self.processor, self.judgement_weight = processor, judgement_weight
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "right"
        self.labels: LabelTokens = label_tokens(self.tokenizer, model)
        self.label_ids = torch.tensor(self.labels.all)

    def __call__(self, examples: Sequence[Example]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Model inputs, and weights (rows, length) where token t is learned with weights[:, t]."""
        images = [load(e.image) if e.image else None for e in examples]
        texts = [self._whole(e) for e in examples]
        if not any(images):
            images.append(BLANK)
            texts.append(self._prompt("", True))
        pictures = [[image] for image in images if image is not None]
        inputs = self.processor(text=texts, images=pictures, return_tensors="pt", padding=True)
        weights = torch.zeros(inputs["input_ids"].shape)
        for row, example in enumerate(examples):
            self._weigh(example, inputs["input_ids"][row], inputs["attention_mask"][row], weights[row])
        return dict(inputs), weights

    def _weigh(self, example: Example, ids: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> None:
        end = int(mask.sum())
        answer = self.tokenizer.encode(self._answer(example), add_special_tokens=False)
        start = end - len(answer)
        if ids[start:end].tolist() != answer:
            raise ValueError("the chat template merges the answer's first token into the prompt")
        weights[start:end] = example.weight
        if example.judged:
            judgements = torch.isin(ids[start:end], self.label_ids).nonzero()
            if len(judgements):
                weights[start + int(judgements[-1])] *= self.judgement_weight

    def _whole(self, example: Example) -> str:
        return self._prompt(example.text, example.image is not None) + self._answer(example)

    def _prompt(self, text: str, pictured: bool) -> str:
        return str(
            self.processor.apply_chat_template(_turns(text, pictured), add_generation_prompt=True, tokenize=False)
        )

    def _answer(self, example: Example) -> str:
        turns = _turns(example.text, example.image is not None)
        answer = {"role": "assistant", "content": [{"type": "text", "text": example.answer}]}
        whole = str(self.processor.apply_chat_template([*turns, answer], tokenize=False))
        return whole[len(self._prompt(example.text, example.image is not None)) :]


def _turns(text: str, pictured: bool) -> list[dict[str, object]]:
    parts: list[dict[str, str]] = [{"type": "text", "text": text}]
    return [{"role": "user", "content": [{"type": "image"}, *parts] if pictured else parts}]
