"""Collator: turns training examples into model inputs and per-token loss weights."""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import ProcessorMixin

from vlrm_ray.engines import LabelTokens, PlainText, label_tokens
from vlrm_ray.preferences.judgement import judgement_token
from vlrm_ray.reward.examples import Example
from vlrm_ray.store.images import load_image

BLANK = Image.new("RGB", (56, 56), (128, 128, 128))
"""Image of the padding row in a batch without images."""


class Collator:
    """Collates examples into one padded batch.

    Each batch holds at least one image. Under FSDP all workers must run the vision tower in every micro-batch,
    because its all-gathers are collective operations: otherwise the workers that run it would wait forever. A batch
    without images gets an extra row with a blank image and zero loss weight.
    """

    def __init__(self, processor: ProcessorMixin, model: str, judgement_weight: float, max_pixels: int = 0) -> None:
        """Prepare the collator.

        Args:
            processor: processor of the model.
            model: name of the model, for messages.
            judgement_weight: factor on the loss of the judgement's token.
            max_pixels: most pixels of an image, as for the engines; 0 means no limit.
        """
        self.processor, self.judgement_weight, self.max_pixels = processor, judgement_weight, max_pixels
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "right"
        self.labels: LabelTokens = label_tokens(self.tokenizer, model)
        self.plain = PlainText.of_processor(processor)

    def __call__(self, examples: Sequence[Example]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Collate one micro-batch.

        Returns:
            The model inputs (`input_ids` is int64 of shape (rows, length)), and float32 loss weights of the same
            shape. `weights[row, t]` is the weight of predicting token t; it is 0 for prompt and padding tokens.

        Raises:
            ValueError: if the chat template does not keep the answer's tokens separate from the prompt's.
        """
        images = [load_image(e.image, self.max_pixels) if e.image else None for e in examples]
        texts = [self._full_text(e) for e in examples]
        if not any(images):
            images.append(BLANK)
            texts.append(self._prompt("", True))
        image_lists = [[image] for image in images if image is not None]
        inputs = self.processor(text=texts, images=image_lists, return_tensors="pt", padding=True)
        weights = torch.zeros(inputs["input_ids"].shape)
        for row, example in enumerate(examples):
            self._set_weights(example, inputs["input_ids"][row], inputs["attention_mask"][row], weights[row])
        return dict(inputs), weights

    def _set_weights(self, example: Example, ids: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> None:
        """Set the weights of the answer's tokens in place; all arguments have shape (length,)."""
        end = int(mask.sum())
        answer = self.tokenizer.encode(self._answer(example), add_special_tokens=False)
        start = end - len(answer)
        if ids[start:end].tolist() != answer:
            raise ValueError(
                "the chat template merges the answer's first token with the prompt; use a model whose chat template does not"
            )
        weights[start:end] = example.weight
        if example.judged and (found := judgement_token(answer, self._decode)):
            weights[start + found[0]] *= self.judgement_weight

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _full_text(self, example: Example) -> str:
        return self._prompt(example.text, example.image is not None) + self._answer(example)

    def _prompt(self, text: str, with_image: bool) -> str:
        return str(
            self.processor.apply_chat_template(
                self._turns(text, with_image), add_generation_prompt=True, tokenize=False
            )
        )

    def _answer(self, example: Example) -> str:
        """The assistant's turn as the chat template renders it, including its end token."""
        turns = self._turns(example.text, example.image is not None)
        answer = {"role": "assistant", "content": [{"type": "text", "text": self.plain(example.answer)}]}
        full_text = str(self.processor.apply_chat_template([*turns, answer], tokenize=False))
        return full_text[len(self._prompt(example.text, example.image is not None)) :]

    def _turns(self, text: str, with_image: bool) -> list[dict[str, object]]:
        """The user's turn; control tokens in its text are made words, as in the engines."""
        parts: list[dict[str, str]] = [{"type": "text", "text": self.plain(text)}]
        return [{"role": "user", "content": [{"type": "image"}, *parts] if with_image else parts}]
