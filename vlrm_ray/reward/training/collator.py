"""Collator: turns the examples of pairs into token trees, and trees into micro-batches.

Tokenizing and image preprocessing happen in `Collator.pair`, which background threads call; see `loader.py`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import ProcessorMixin

from vlrm_ray.engines import LabelTokens, PlainText, chat_tokenization, label_tokens
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.preferences.judgement import judgement_token
from vlrm_ray.reward.training.examples import Example
from vlrm_ray.reward.training.image_once import with_images_once
from vlrm_ray.reward.training.packing import (
    CRITIQUE,
    JUDGEMENT,
    RESPONSE,
    Packing,
    Targets,
    TokenSequence,
    Tree,
    fill,
    merge,
    packing_of,
)
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.images import UNREADABLE, load_image

BLANK = Image.new("RGB", (56, 56), (128, 128, 128))
"""Image of a micro-batch that has no other."""
TOO_LONG = "longer_than_max_tokens"
"""Reason of a dropped example that does not fit into a micro-batch."""
UNLEARNED = "side_without_right_critique"
"""Reason of an example that is left out because no critique of its side can be learned (`selection.sides: either`)."""
MERGED = "answer_merges_with_prompt"
"""Reason of a dropped example whose answer begins with a part of a token, as a newline after the prompt's newline may."""
TEXT_INPUTS = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
"""Outputs of a processor with a value per token; all others belong to the image."""
ImageInputs = Mapping[str, torch.Tensor]
"""The processor's outputs for an image, each with its patches, tiles or rows in dimension 0."""
Positions = Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""Computes positions, int64 of shape (axes, L), of token ids and types of shape (L,) and the image's inputs."""


@dataclass(frozen=True)
class PairTrees:
    """The tokenized examples of one pair.

    Attributes:
        pair_id: id of the pair.
        trees: one tree, or one per example.
        image: the processor's outputs for the image, each with its patches or rows in dimension 0; empty without one.
        dropped: number of examples that are left out, by reason.
    """

    pair_id: str
    trees: list[Tree]
    image: dict[str, torch.Tensor] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MicroBatch:
    """The input of one forward pass.

    Attributes:
        ids: token ids, int64 of shape (1, T) if packed, otherwise (rows, length).
        positions: int64 of shape (axes, rows, length).
        types: as `ids`; 1 for tokens of images.
        mask: attention mask as `ids` of padded rows; None if packed.
        packing: how packed tokens attend to each other; None if padded.
        images: the processor's outputs for the images, each image once.
        rows: number of rows that each image has in each of `images`, by its name.
        uses: indices of the images in the order in which the tokens need them, with repetitions.
        targets: the learned tokens; sources index the flattened tokens.
        tokens: number of tokens without padding.
        attended: number of pairs of a token and one that it attends to.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor | None
    packing: Packing | None
    images: dict[str, torch.Tensor]
    rows: dict[str, tuple[int, ...]]
    uses: tuple[int, ...]
    targets: Targets
    tokens: int
    attended: int

    @property
    def patches(self) -> int:
        """Number of patches of the images; of models without a grid of patches, number of images."""
        return len(next(iter(self.images.values())))

    def to(self, device: torch.device) -> "MicroBatch":
        """A copy on a device. On a GPU its packing has no trees: attention there needs none, and FSDP visits all that it has
        in each block.
        """
        moved: MicroBatch = _moved(self, device)
        if device.type == "cpu" or moved.packing is None:
            return moved
        return replace(moved, packing=replace(moved.packing, trees=()))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _moved(item, device) for name, item in value.items()}
    if isinstance(value, MicroBatch | Packing | Targets):
        return replace(value, **{each.name: _moved(getattr(value, each.name), device) for each in fields(value)})
    return value


class _MergedTokens(Exception):
    """An answer has a token in common with the prompt before it."""


class _DifferentShapes(Exception):
    """The inputs of two images cannot be put into one tensor; the message is their name."""


class Collator:
    """Tokenizes pairs and forms micro-batches of at most `max_tokens` tokens.

    Each micro-batch holds at least one image. Under FSDP all workers must run the vision tower in every micro-batch,
    because its all-gathers are collective operations: otherwise the workers that run it would wait forever. A
    micro-batch without images gets a blank one, with zero loss weight.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        model: str,
        positions: Positions,
        *,
        judgement_weight: float,
        max_tokens: int,
        packing: bool = True,
        shared_prefix: bool = True,
        max_pixels: int = 0,
    ) -> None:
        """Prepare the collator.

        Args:
            processor: processor of the model.
            model: name of the model, for messages.
            positions: computes a sequence's positions.
            judgement_weight: factor on the loss of the judgement's token.
            max_tokens: most tokens of a micro-batch, padding included; a blank image is added to them.
            packing: whether sequences are packed into one row; otherwise they are padded.
            shared_prefix: whether packed sequences of a pair share their common beginning.
            max_pixels: most pixels of an image, as for the engines; 0 means no limit.

        Raises:
            UserError: the chat template merges even an empty answer with the prompt.
        """
        self.processor = with_images_once(processor)
        self.judgement_weight, self.max_pixels = judgement_weight, max_pixels
        self.positions, self.max_tokens, self.packing = positions, max_tokens, packing
        self.shared_prefix, self.model = packing and shared_prefix, model
        self.tokenizer = processor.tokenizer
        self.labels: LabelTokens = label_tokens(self.tokenizer, model)
        self.plain = PlainText.of_processor(processor)
        self.blank = _without_loss(self.pair("", [Example("", "", False)], BLANK))
        if MERGED in self.blank.dropped:
            raise UserError(
                f"the chat template of {model} merges the first token of every answer with the prompt; use a model whose "
                "chat template does not"
            )

    def load(self, uri: str) -> Image.Image:
        """Read and decode an image."""
        return load_image(uri, self.max_pixels)

    def read_pair(self, pair_id: str, examples: Sequence[Example], uri: str) -> PairTrees:
        """`pair` with the image at a path or URI, "" for none. All examples are dropped if it cannot be used any more.

        Raises:
            StorageError: the storage of the image does not answer.
        """
        try:
            image = self.load(uri) if uri else None
        except BadImage as error:
            if str(error) == UNREADABLE:
                raise StorageError(f"the image {redacted(uri)} of pair {pair_id} cannot be read") from error
            return PairTrees(pair_id, [], dropped={str(error): len(examples)})
        return self.pair(pair_id, examples, image)

    def pair(self, pair_id: str, examples: Sequence[Example], image: Image.Image | None) -> PairTrees:
        """Tokenize the examples of a pair, which have the same image.

        Args:
            pair_id: id of the pair.
            examples: its examples.
            image: the decoded image; None without one.
        """
        inputs: dict[str, torch.Tensor] = {}
        sequences = []
        dropped: Counter[str] = Counter()
        for example in examples:
            if example.judged and not example.answer:
                dropped[UNLEARNED] += 1
                continue
            try:
                sequence, inputs = self.sequence(example, image)
            except _MergedTokens:
                dropped[MERGED] += 1
                continue
            if len(sequence) <= self.max_tokens:
                sequences.append(sequence)
            else:
                dropped[TOO_LONG] += 1
        trees = merge(sequences, shared_prefix=self.shared_prefix) if sequences else []
        if sum(map(len, trees[:1])) > self.max_tokens:
            trees = merge(sequences, shared_prefix=False)
        return PairTrees(pair_id, trees, inputs if trees else {}, dict(dropped))

    def micro_batches(self, pairs: Sequence[PairTrees]) -> list[MicroBatch]:
        """The micro-batches of pairs, as few as their order allows."""
        trees = [(tree, index) for index, pair in enumerate(pairs) for tree in pair.trees]
        if self.packing:
            groups = fill([len(tree) for tree, _ in trees], self.max_tokens)
        else:
            groups = _fill_rows([len(tree) for tree, _ in trees], self.max_tokens)
        return [self._micro_batch([trees[i] for i in group], pairs) for group in groups]

    def empty(self) -> MicroBatch:
        """A micro-batch without learned tokens, for a worker that has fewer than the others."""
        return self._micro_batch([], [])

    def _micro_batch(self, trees: Sequence[tuple[Tree, int]], pairs: Sequence[PairTrees]) -> MicroBatch:
        if not any(pairs[index].image for _, index in trees):
            trees, pairs = [*trees, (self.blank.trees[0], len(pairs))], [*pairs, self.blank]
        with_image = [index for _, index in trees if pairs[index].image]
        used = list(dict.fromkeys(with_image))
        uses = tuple(used.index(index) for index in with_image)
        form = _packed if self.packing else _padded
        try:
            return form([tree for tree, _ in trees], [pairs[index].image for index in used], uses)
        except _DifferentShapes as error:
            raise UserError(
                f"the processor of {self.model} makes {error} of different shapes for images of different sizes, which "
                "cannot be trained together; train another model, or scale the images to one size first"
            ) from None

    def sequence(self, example: Example, image: Image.Image | None) -> tuple[TokenSequence, dict[str, torch.Tensor]]:
        """A tokenized example, and the inputs of its image."""
        prompt, answer = self._texts(example, image is not None)
        images = {} if image is None else {"images": [[image]]}
        options = chat_tokenization(self.tokenizer, prompt)
        inputs = self.processor(text=[prompt + answer], return_tensors="pt", **images, **options)
        ids = inputs["input_ids"][0]
        of_tokens = inputs.get("mm_token_type_ids", inputs.get("token_type_ids"))
        types = torch.zeros_like(ids) if of_tokens is None else of_tokens[0].long()
        of_image = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
        weights, kinds = self._learned(example, ids, answer)
        return TokenSequence(ids, self.positions(ids, types, of_image), types, weights, kinds), of_image

    def _learned(self, example: Example, ids: torch.Tensor, answer_text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss weights and kinds of an example's tokens, both of shape (L,)."""
        answer = self.tokenizer.encode(answer_text, add_special_tokens=False)
        start = len(ids) - len(answer)
        if ids[start:].tolist() != answer:
            raise _MergedTokens
        weights, kinds = torch.zeros(len(ids)), torch.full((len(ids),), _kind(example))
        weights[start:] = example.weight
        if example.continues:
            weights[len(ids) - self._length_after(example, answer_text) :] = 0
        if example.judged and (found := judgement_token(answer, self._decode)):
            weights[start + found[0]] *= self.judgement_weight
            kinds[start + found[0]] = JUDGEMENT
        return weights, kinds

    def _length_after(self, example: Example, answer_text: str) -> int:
        """Number of tokens of a rendered answer after its text; the first of them is a control token."""
        text = self.plain(example.answer)
        rest = answer_text[answer_text.rindex(text) + len(text) :]
        return len(self.tokenizer.encode(rest, add_special_tokens=False))

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _texts(self, example: Example, with_image: bool) -> tuple[str, str]:
        """The prompt and the assistant's turn as the chat template renders it, including its end token."""
        parts: list[dict[str, str]] = [{"type": "text", "text": self.plain(example.text)}]
        user = {"role": "user", "content": [{"type": "image"}, *parts] if with_image else parts}
        assistant = {"role": "assistant", "content": [{"type": "text", "text": self.plain(example.answer)}]}
        render = self.processor.apply_chat_template
        prompt = str(render([user], add_generation_prompt=True, tokenize=False))
        conversation = str(render([user, assistant], tokenize=False))
        if not conversation.startswith(prompt):
            raise UserError(
                f"the model's chat template writes something before an answer that it leaves out of a finished "
                f"conversation ({prompt[-20:]!r}), as those of models that think do; train a model without it"
            )
        return prompt, conversation[len(prompt) :]


def _kind(example: Example) -> int:
    """Kind of an example's tokens before the judgement; a description is the beginning of a critique."""
    return CRITIQUE if example.judged or example.continues else RESPONSE


def _packed(trees: Sequence[Tree], images: Sequence[ImageInputs], uses: tuple[int, ...]) -> MicroBatch:
    """Trees one after the other in one row."""
    starts = list(accumulate(map(len, trees), initial=0))
    return MicroBatch(
        ids=torch.cat([tree.ids for tree in trees]).unsqueeze(0),
        positions=torch.cat([tree.positions for tree in trees], dim=1).unsqueeze(1),
        types=torch.cat([tree.types for tree in trees]).unsqueeze(0),
        mask=None,
        packing=packing_of(trees),
        images=_joined_images(images),
        rows=_rows(images),
        uses=uses,
        targets=_joined(trees, starts),
        tokens=sum(map(len, trees)),
        attended=sum(tree.attended for tree in trees),
    )


def _padded(trees: Sequence[Tree], images: Sequence[ImageInputs], uses: tuple[int, ...]) -> MicroBatch:
    """A row for each tree, which must hold one sequence, padded on the right."""
    longest = max(map(len, trees))
    ids = [tree.ids for tree in trees]
    return MicroBatch(
        ids=pad_sequence(ids, batch_first=True),
        positions=pad_sequence([tree.positions.T for tree in trees], batch_first=True).permute(2, 0, 1),
        types=pad_sequence([tree.types for tree in trees], batch_first=True),
        mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        packing=None,
        images=_joined_images(images),
        rows=_rows(images),
        uses=uses,
        targets=_joined(trees, [longest * row for row in range(len(trees))]),
        tokens=sum(map(len, trees)),
        attended=sum(tree.attended for tree in trees),
    )


def _joined_images(images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
    """The inputs of several images, one image after the other."""
    joined = {}
    for name in images[0]:
        values = [image[name] for image in images]
        if name == "pixel_values" and values[0].dim() == 5:  # (1, tiles, channels, height, width)
            most = max(value.shape[1] for value in values)
            values = [
                pad(value, (0,) * 7 + (most - value.shape[1],)) for value in values
            ]  # the model cuts it off again
        if len({value.shape[1:] for value in values}) > 1:
            raise _DifferentShapes(name)
        joined[name] = torch.cat(values)
    return joined


def _rows(images: Sequence[ImageInputs]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(len(image[name]) for image in images) for name in images[0]}


def _joined(trees: Sequence[Tree], starts: Sequence[int]) -> Targets:
    """The targets of all trees, which begin at `starts` in the flattened tokens."""
    parts = [
        (tree.targets.sources + start, tree.targets.ids, tree.targets.weights, tree.targets.kinds)
        for tree, start in zip(trees, starts, strict=False)
    ]
    return Targets(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _without_loss(pair: PairTrees) -> PairTrees:
    """The pair with loss weights of zero; its targets still connect the loss with all parameters."""
    trees = [replace(t, targets=replace(t.targets, weights=torch.zeros_like(t.targets.weights))) for t in pair.trees]
    return replace(pair, trees=trees)


def _fill_rows(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Distribute sequences over as few padded batches as their order allows, each of at most `budget` tokens."""
    groups: list[list[int]] = []
    longest = 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if not groups or longest * (len(groups[-1]) + 1) > budget:
            groups.append([])
            longest = length
        groups[-1].append(index)
    return groups
