"""Adapter for generation with transformers, for platforms without vLLM; its scores agree with those of vLLM."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import Image

from vlrm_ray import torchvision_shim
from vlrm_ray.engines import (
    Completion,
    EngineSettings,
    LabelTokens,
    PlainText,
    Request,
    Sampling,
    batches,
    chat_tokenization,
    label_tokens,
)
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.preferences.judgement import find_judgement
from vlrm_ray.store.images import image_batches, load_in_condition
from vlrm_ray.store.models import local_model
from vlrm_ray.types import ImageCondition

torchvision_shim.install()

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForImageTextToText,
    AutoProcessor,
    BatchEncoding,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
)

from vlrm_ray.reward.seeded_sampling import SeededSampling  # noqa: E402


class TransformersEngine:
    """transformers model in the process of its actor. Requests with and without an image go to separate batches.

    Attributes:
        labels: token ids of Yes and No.
        plain: makes words of the model's control tokens in a request.
    """

    def __init__(self, settings: EngineSettings, device: str = "") -> None:
        """Load the model.

        Args:
            settings: the engine's settings.
            device: PyTorch's name of the device; empty for the GPU that Ray gave this actor, or the CPU if it has none.

        Raises:
            UserError: the model cannot be loaded, or has no tokens for Yes and No.
        """
        self.settings, folder = settings, local_model(settings.model)
        self.device = torch.device(device or ("cuda:0" if settings.gpus > 0 else "cpu"))
        try:
            self.processor = AutoProcessor.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"model {folder} cannot be loaded: {first_line(error)}") from error
        self.processor.tokenizer.padding_side = "left"
        self.labels: LabelTokens = label_tokens(self.processor.tokenizer, folder)
        self.plain = PlainText.of_processor(self.processor)
        self.load(folder)

    def load(self, folder: str) -> None:
        """See `Engine.load`. Of the folder's generation_config.json only the token ids count, as in the vLLM engine."""
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, self.settings.dtype))
        given = model.generation_config
        model.generation_config = GenerationConfig(
            bos_token_id=given.bos_token_id, eos_token_id=given.eos_token_id, pad_token_id=given.pad_token_id
        )
        self.model = model.to(self.device).eval()
        _compute_logits_in_float32(self.model)

    def _ends(self) -> torch.Tensor:
        """Token ids that end an answer, of shape (ids,)."""
        ids = self.model.generation_config.eos_token_id
        return torch.tensor(ids if isinstance(ids, list) else [ids], device=self.device).flatten()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`. Judgements are scored in a second forward pass, over the finished text.

        Raises:
            ValueError: a prompt is too long.
        """
        if sampling.json_schema:
            raise UserError("the transformers engine does not support JSON schemas; set the engine's kind to vllm")
        answers: dict[int, list[Completion]] = {}
        tokenizer = self.processor.tokenizer
        for indices, inputs in self._inputs(requests, self.settings.max_num_seqs // sampling.n or 1):
            _check_length(inputs, self.settings.max_model_len)
            sample = sampling.temperature > 0
            devices = [self.device] if self.device.type == "cuda" else []
            own = SeededSampling([requests[i].seed for i in indices], sampling, self.device) if sample else None
            with torch.inference_mode(), torch.random.fork_rng(devices):  # the caller's random state stays as it is
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=sampling.max_tokens,
                    do_sample=sample,
                    logits_processor=LogitsProcessorList([own] if own else []),
                    top_k=0 if sample else None,  # transformers' own default is 50
                    num_return_sequences=sampling.n,
                )
            new = tokens[:, inputs["input_ids"].shape[1] :]
            texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
            lengths: list[int] = (new != tokenizer.pad_token_id).sum(1).tolist()
            ended = torch.isin(new, self._ends()).any(1).tolist()
            found = [
                Completion(text, cut=not end and length == sampling.max_tokens, tokens=length)
                for text, length, end in zip(texts, lengths, ended, strict=True)
            ]
            for position, index in enumerate(indices):
                answers[index] = found[position * sampling.n : (position + 1) * sampling.n]
        ordered = [answers[i] for i in range(len(requests))]
        if sampling.judgement == "none":
            return [[replace(answer, text=answer.text.strip()) for answer in group] for group in ordered]
        return self._with_scores(requests, ordered)

    def _with_scores(self, requests: Sequence[Request], answers: list[list[Completion]]) -> list[list[Completion]]:
        """The answers without white space around them, with p(Yes) and p(No) at the judgement of each answer that has one."""
        positions, words, prefixes = [], [], []
        for row, (request, group) in enumerate(zip(requests, answers, strict=True)):
            for column, answer in enumerate(group):
                if judgement := find_judgement(answer.text):
                    positions.append((row, column))
                    words.append(judgement.word)
                    before = answer.text[: judgement.start]
                    # a space before the word belongs to its token
                    prefix = request.prefix + (before[:-1] if before.endswith(" ") else before)
                    prefixes.append(replace(request, prefix=prefix))
        logprobs = self._label_logprobs(prefixes)
        scores = {
            position: self.labels.masses(row, word)
            for position, row, word in zip(positions, logprobs, words, strict=True)
        }
        return [
            [self._scored(answer, *scores.get((row, column), (0.0, 0.0))) for column, answer in enumerate(group)]
            for row, group in enumerate(answers)
        ]

    @staticmethod
    def _scored(answer: Completion, yes: float, no: float) -> Completion:
        return replace(answer, text=answer.text.strip(), yes=yes, no=no)

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine.score`.

        Raises:
            ValueError: a prompt is too long.
        """
        logprobs = self._label_logprobs(requests, self.settings.max_model_len)
        return [Completion("", *self.labels.masses(row)) for row in logprobs]

    def _label_logprobs(self, requests: Sequence[Request], limit: int = 0) -> list[dict[int, float]]:
        """Log-probabilities of the label tokens as the next token after each request's prefix, by token id.

        A prompt must be shorter than `limit` tokens; 0 means no limit.
        """
        ids = list(self.labels.all)
        rows: dict[int, dict[int, float]] = {}
        for indices, inputs in self._inputs(requests, self.settings.max_num_seqs):
            if limit:
                _check_length(inputs, limit)
            with torch.inference_mode():
                logprobs = self.model(**inputs, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
            for index, row in zip(indices, logprobs[:, ids].tolist(), strict=True):
                rows[index] = dict(zip(ids, row, strict=True))
        return [rows[i] for i in range(len(requests))]

    def close(self) -> None:
        """See `Engine.close`."""
        del self.model

    def _inputs(self, requests: Sequence[Request], size: int) -> Iterator[tuple[list[int], BatchEncoding]]:
        """Batches of at most `size` requests: their indices, and the model's inputs. Few large images fill a batch."""
        with_image = [i for i, request in enumerate(requests) if _has_image(request)]
        limit = self.settings.max_pixels
        opened = (load_in_condition(requests[i].image or "", requests[i].condition, limit) for i in with_image)
        start = 0
        for images in image_batches((image for image in opened if image is not None), size):
            batch = with_image[start : start + len(images)]
            start += len(images)
            yield batch, self._processed([requests[i] for i in batch], images)
        for without in batches([i for i, request in enumerate(requests) if not _has_image(request)], size):
            yield list(without), self._processed([requests[i] for i in without], None)

    def _processed(self, requests: Sequence[Request], images: list[Image.Image] | None) -> BatchEncoding:
        """The model's inputs for requests that all have an image, or all have none."""
        texts = [self._text(request, images is not None) for request in requests]
        image_lists = [[image] for image in images] if images is not None else None
        options = chat_tokenization(self.processor.tokenizer, texts[0])
        inputs = self.processor(text=texts, images=image_lists, return_tensors="pt", padding=True, **options)
        return inputs.to(
            self.device, dtype=getattr(torch, self.settings.dtype)
        )  # of floating-point tensors, the pixels

    def _text(self, request: Request, with_image: bool) -> str:
        parts = [{"type": "text", "text": self.plain(request.text)}]
        content = [{"type": "image"}, *parts] if with_image else parts
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return str(prompt) + self.plain(request.prefix)


def _compute_logits_in_float32(model: PreTrainedModel) -> None:
    """Give a model in half precision an output layer in float32, as the vLLM engine does.

    In bfloat16, logits of 16 to 32 have steps of an eighth, and the rewards of different responses would often be equal.
    """
    head = model.get_output_embeddings()
    if isinstance(head, torch.nn.Linear) and head.weight.dtype != torch.float32:
        head = copy.deepcopy(head).float()  # of its own: the input embedding may share its weights
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        model.set_output_embeddings(head)


def _check_length(inputs: BatchEncoding, limit: int) -> None:
    """Raise ValueError for a prompt that leaves no room for an answer, as vLLM does."""
    length = inputs["input_ids"].shape[1]
    if length >= limit:
        raise ValueError(f"a prompt has {length} tokens, longer than the maximum of {limit}")


def _has_image(request: Request) -> bool:
    return bool(request.image) and request.condition is not ImageCondition.IMAGE_FREE
