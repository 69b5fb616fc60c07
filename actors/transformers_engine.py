"""Adapter for transformers: the same verbs where vLLM has no platform, held to the same scores."""

import re
from collections.abc import Iterator, Sequence

from vlrm_ray import torchvision_shim
from vlrm_ray.engines import Completion, EngineSettings, LabelTokens, Request, Sampling, batches, label_tokens
from vlrm_ray.errors import UserError
from vlrm_ray.ids import seed_of
from vlrm_ray.store.images import view
from vlrm_ray.types import NO, YES

torchvision_shim.install()

import torch  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor, BatchEncoding  # noqa: E402

_JUDGEMENT = re.compile(rf"^(.*)(\s(?:{YES}|{NO}))\W*$|^({YES}|{NO})\b", re.DOTALL)


class TransformersEngine:
    """A model in the process of its actor; requests with and without a picture are batched apart."""

    def __init__(self, settings: EngineSettings) -> None:
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
        """See `Engine`."""
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, self.settings.dtype))
        self.model = model.to(self.device).eval()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine`. Judgements are scored in a second pass over the finished text."""
        if sampling.json_schema:
            raise UserError(
                "the transformers engine does not hold answers to a JSON schema; set the engine's kind to vllm"
            )
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
            for place, index in enumerate(indices):
                answers[index] = texts[place * sampling.n : (place + 1) * sampling.n]
        return self._judged(requests, [answers[i] for i in range(len(requests))])

    def _judged(self, requests: Sequence[Request], answers: list[list[str]]) -> list[list[Completion]]:
        places, asked = [], []
        for row, (request, texts) in enumerate(zip(requests, answers, strict=True)):
            for column, text in enumerate(texts):
                match = _JUDGEMENT.match(text)
                if match:
                    places.append((row, column))
                    asked.append(
                        Request(
                            request.text, request.image, request.condition, prefix=request.prefix + (match[1] or "")
                        )
                    )
        scores = dict(zip(places, self.score(asked), strict=True))
        return [
            [
                Completion(t, scores[r, c].yes, scores[r, c].no) if (r, c) in scores else Completion(t)
                for c, t in enumerate(texts)
            ]
            for r, texts in enumerate(answers)
        ]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine`."""
        scores: dict[int, Completion] = {}
        for indices, inputs in self._inputs(requests, self.settings.max_num_seqs):
            with torch.inference_mode():
                logprobs = self.model(**inputs, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
            wanted = logprobs[:, list(self.labels.all)].tolist()
            for index, row in zip(indices, wanted, strict=True):
                scores[index] = Completion("", *self.labels.masses(dict(zip(self.labels.all, row, strict=True))))
        return [scores[i] for i in range(len(requests))]

    def close(self) -> None:
        """See `Engine`."""
        del self.model

    def _inputs(self, requests: Sequence[Request], size: int) -> Iterator[tuple[list[int], BatchEncoding]]:
        images = [view(r.image, r.condition) if r.image else None for r in requests]
        for pictured in (True, False):
            members = [i for i, image in enumerate(images) if (image is not None) is pictured]
            for batch in batches(members, size):
                texts = [self._text(requests[i], pictured) for i in batch]
                pictures = [[images[i]] for i in batch] if pictured else None
                inputs = self.processor(text=texts, images=pictures, return_tensors="pt", padding=True)
                yield list(batch), inputs.to(self.device)

    def _text(self, request: Request, pictured: bool) -> str:
        parts = [{"type": "text", "text": request.text}]
        content = [{"type": "image"}, *parts] if pictured else parts
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return str(prompt) + request.prefix
