"""Adapter for generation with transformers, for platforms without vLLM; its scores agree with those of vLLM."""

import re
from collections.abc import Iterator, Sequence

from vlrm_ray import torchvision_shim
from vlrm_ray.engines import Completion, EngineSettings, LabelTokens, Request, Sampling, batches, label_tokens
from vlrm_ray.errors import UserError
from vlrm_ray.ids import seed_of
from vlrm_ray.store.images import load_in_condition
from vlrm_ray.types import NO, YES

torchvision_shim.install()

import torch  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor, BatchEncoding  # noqa: E402

_JUDGEMENT = re.compile(rf"^(.*)(\s(?:{YES}|{NO}))\W*$|^({YES}|{NO})\b", re.DOTALL)
"""A judgement at the end of an answer (group 1 is the text before it), or an answer that starts with one."""


class TransformersEngine:
    """transformers model in the process of its actor. Requests with and without an image go to separate batches.

    Attributes:
        labels: token ids of Yes and No.
    """

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model; raises UserError if it cannot be loaded or has no tokens for Yes and No."""
        self.settings = settings
        self.device = torch.device("cuda" if settings.gpus > 0 else "cpu")
        try:
            self.processor = AutoProcessor.from_pretrained(settings.model)
        except (OSError, ValueError) as error:
            raise UserError(f"model {settings.model} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.processor.tokenizer.padding_side = "left"
        self.labels: LabelTokens = label_tokens(self.processor.tokenizer, settings.model)
        self.load(settings.model)

    def load(self, folder: str) -> None:
        """See `Engine.load`."""
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, self.settings.dtype))
        self.model = model.to(self.device).eval()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`. Judgements are scored in a second forward pass, over the finished text."""
        if sampling.json_schema:
            raise UserError("the transformers engine does not support JSON schemas; set the engine's kind to vllm")
        answers: dict[int, list[str]] = {}
        for indices, inputs in self._inputs(requests, self.settings.max_num_seqs // sampling.n or 1):
            torch.manual_seed(seed_of(*(requests[i].seed for i in indices)))
            sample = sampling.temperature > 0
            with torch.inference_mode():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=sampling.max_tokens,
                    do_sample=sample,
                    temperature=sampling.temperature if sample else None,
                    top_p=sampling.top_p if sample else None,
                    num_return_sequences=sampling.n,
                )
            texts = [
                t.strip()
                for t in self.processor.tokenizer.batch_decode(
                    tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
                )
            ]
            for position, index in enumerate(indices):
                answers[index] = texts[position * sampling.n : (position + 1) * sampling.n]
        return self._with_scores(requests, [answers[i] for i in range(len(requests))])

    def _with_scores(self, requests: Sequence[Request], answers: list[list[str]]) -> list[list[Completion]]:
        """Add p(Yes) and p(No) at the judgement of each answer that has one."""
        positions, prefixes = [], []
        for row, (request, texts) in enumerate(zip(requests, answers, strict=True)):
            for column, text in enumerate(texts):
                match = _JUDGEMENT.match(text)
                if match:
                    positions.append((row, column))
                    prefix = request.prefix + (match[1] or "")
                    prefixes.append(Request(request.text, request.image, request.condition, prefix=prefix))
        scores = dict(zip(positions, self.score(prefixes), strict=True))
        return [
            [
                Completion(t, scores[r, c].yes, scores[r, c].no) if (r, c) in scores else Completion(t)
                for c, t in enumerate(texts)
            ]
            for r, texts in enumerate(answers)
        ]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine.score`."""
        scores: dict[int, Completion] = {}
        for indices, inputs in self._inputs(requests, self.settings.max_num_seqs):
            with torch.inference_mode():
                logprobs = self.model(**inputs, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
            label_logprobs = logprobs[:, list(self.labels.all)].tolist()
            for index, row in zip(indices, label_logprobs, strict=True):
                scores[index] = Completion("", *self.labels.masses(dict(zip(self.labels.all, row, strict=True))))
        return [scores[i] for i in range(len(requests))]

    def close(self) -> None:
        """See `Engine.close`."""
        del self.model

    def _inputs(self, requests: Sequence[Request], size: int) -> Iterator[tuple[list[int], BatchEncoding]]:
        """Batches of at most `size` requests: their indices, and the model's inputs."""
        images = [load_in_condition(r.image, r.condition) if r.image else None for r in requests]
        for with_image in (True, False):
            members = [i for i, image in enumerate(images) if (image is not None) is with_image]
            for batch in batches(members, size):
                texts = [self._text(requests[i], with_image) for i in batch]
                batch_images = [[images[i]] for i in batch] if with_image else None
                inputs = self.processor(text=texts, images=batch_images, return_tensors="pt", padding=True)
                yield list(batch), inputs.to(self.device)

    def _text(self, request: Request, with_image: bool) -> str:
        parts = [{"type": "text", "text": request.text}]
        content = [{"type": "image"}, *parts] if with_image else parts
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return str(prompt) + request.prefix
