"""Pre-trains the tiny VLM (Qwen2.5-VL architecture), including the biased prior that the rounds have to correct."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from jobs.assets.training import learning_rates, optimizers, publish, restore, save, schedule, update
from vlrm_ray import torchvision_shim
from vlrm_ray.scenes.corpus import Turn, conversation, given_critique, text_only_answer, text_only_critique, texts
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import World, described_by_prior

torchvision_shim.install()
import transformers as hf  # noqa: E402  (needs the shim)

log = logging.getLogger(__name__)

INPUT_SIZE = 96
"""Side of the image that the model gets, in pixels."""
PATCH, MERGE = 8, 2
SPECIAL = ("<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
IGNORE = -100


@dataclass(frozen=True)
class Phase:
    """A phase of the training with its own warm-up and cosine decay.

    Attributes:
        name: name of the phase, for the log.
        steps: number of steps.
        critiques: critiques in each conversation about an image.
        answers: other questions in each conversation about an image.
        picture_every: interval in steps between batches with images.
        told: text-only conversations in each step (`Batches.text_only`).
        signs: share of images with a sign (`World.sign`).
        bias: correlation of shape and colour in the images (`World.bias`).
        description_prior: probability that an object is described by the prior (`described_by_prior`).
        judging_prior: the same probability where responses are judged; 0 uses the description's scene.
        given: share of the text-only conversations in which a critique goes on from a given description.
    """

    name: str
    steps: int
    critiques: int
    answers: int
    picture_every: int
    told: int
    signs: float
    bias: float
    description_prior: float
    judging_prior: float = 0.0
    given: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of the training."""

    phases: tuple[Phase, ...] = (
        Phase(
            "lists", 900, critiques=0, answers=3, picture_every=1, told=64, signs=0.5, bias=0.0, description_prior=0.0
        ),
        Phase(
            "reading", 400, critiques=0, answers=0, picture_every=1, told=32, signs=1.0, bias=0.0, description_prior=0.0
        ),
        Phase(
            "reasoning",
            600,
            critiques=2,
            answers=2,
            picture_every=3,
            told=192,
            signs=0.7,
            bias=0.0,
            description_prior=0.0,
        ),
        Phase(
            "prejudice",
            300,
            critiques=2,
            answers=2,
            picture_every=1,
            told=96,
            signs=0.5,
            bias=0.3,
            description_prior=0.55,
            judging_prior=0.85,
        ),
        Phase(
            "counting",
            500,
            critiques=2,
            answers=2,
            picture_every=2,
            told=192,
            signs=0.5,
            bias=0.3,
            description_prior=0.55,
            judging_prior=0.85,
            given=0.75,
        ),
    )
    batch: int = 32
    muon_lr: float = 0.02
    adam_lr: float = 1.5e-3
    judgement_weight: float = 5.0
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, float]:
        """The phase of a step, and the completed share of that phase; raises IndexError after the last phase."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step / phase.steps
            step -= phase.steps
        raise IndexError(step)


def build_processor() -> hf.Qwen2_5_VLProcessor:
    """Train the tokenizer on the corpus, and combine it with an image processor of the fixed input size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)  # fmt: skip
    bpe.train_from_iterator(texts(2000), trainer)
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="<|end|>", padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={
            "image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
            "vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>",
        },
    )  # fmt: skip
    pixels = {"shortest_edge": INPUT_SIZE * INPUT_SIZE, "longest_edge": INPUT_SIZE * INPUT_SIZE}
    shape = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    return hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(size=pixels, **shape),
        tokenizer,
        hf.Qwen2VLVideoProcessor(**shape),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: hf.Qwen2_5_VLProcessor, seed: int) -> hf.Qwen2_5_VLForConditionalGeneration:
    """Create the untrained model of about 1.8 M parameters."""
    torch.manual_seed(seed)
    tokenizer = processor.tokenizer
    token = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "pad_token_id": token["<pad>"],
        "bos_token_id": None, "eos_token_id": token["<|end|>"],
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
    }  # fmt: skip
    depth = 3
    vision = {
        "depth": depth, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4, "patch_size": PATCH,
        "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": 128, "window_size": INPUT_SIZE,
        "fullatt_block_indexes": list(range(depth)),
    }  # fmt: skip
    config = hf.Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True,
        image_token_id=token["<|image_pad|>"], video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"], vision_end_token_id=token["<|vision_end|>"],
    )  # fmt: skip
    model = hf.Qwen2_5_VLForConditionalGeneration(config)
    model.set_attn_implementation("eager")  # twice as fast as sdpa at this size on a CPU
    model.generation_config = hf.GenerationConfig(eos_token_id=token["<|end|>"], pad_token_id=token["<pad>"])
    return model


class Batches:
    """Converts conversations into padded batches of tensors.

    Only the assistant's tokens have labels, and of these not what is given (`Turn.given`). Token tensors are int64 of shape (conversations, length).
    """

    def __init__(self, processor: hf.Qwen2_5_VLProcessor, recipe: Recipe) -> None:
        self.processor, self.recipe = processor, recipe
        self.token = {n: processor.tokenizer.convert_tokens_to_ids(n) for n in SPECIAL}
        self.cache: dict[str, list[int]] = {}
        judgements = {t for w in ("Yes", " Yes", "No", " No", " yes", " no") for t in self._ids(w)}
        self.judgements = torch.tensor(sorted(judgements))
        tokens = (INPUT_SIZE // PATCH // MERGE) ** 2
        self.image_tokens = [self.token["<|vision_start|>"], *[self.token["<|image_pad|>"]] * tokens, self.token["<|vision_end|>"]]  # fmt: skip

    def with_images(self, step: int, phase: Phase) -> dict[str, torch.Tensor]:
        """The step's conversations about images."""
        size = self.recipe.batch
        rows, images, world = [], [], World(bias=phase.bias, sign=phase.signs)
        for index in range(size):
            seed = step * size + index
            scene, rng = world.sample(seed), random.Random(f"talk-{seed}")
            described = described_by_prior(scene, rng, phase.description_prior)
            judged = described_by_prior(scene, rng, phase.judging_prior) if phase.judging_prior else None
            turns = conversation(described, rng, critiques=phase.critiques, answers=phase.answers, judged=judged)
            rows.append(self._row(turns, self.image_tokens))
            images.append(paint(scene).image)
        pixels = self.processor.image_processor(images=images, return_tensors="pt")
        return self._pad(rows) | dict(pixels)

    def text_only(self, step: int, phase: Phase) -> dict[str, torch.Tensor]:
        """The step's conversations without an image.

        First those with a given description; then seven critiques from facts in the prompt for each answer by the prior.
        """
        size, given = phase.told, round(phase.told * phase.given)
        turns = [
            given_critique(s) if s % size < given else text_only_answer(s) if s % 8 == 0 else text_only_critique(s)
            for s in range(step * size, (step + 1) * size)
        ]
        return self._pad([self._row([turn], []) for turn in turns])

    def _row(self, turns: Sequence[Turn], image_tokens: list[int]) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        for position, turn in enumerate(turns):
            user = [self.token["<|user|>"], *(image_tokens if position == 0 else []), *self._ids(turn.user)]
            given, answer = self._ids(turn.given), [*self._ids(turn.assistant), self.token["<|end|>"]]
            assert answer[: len(given)] == given
            ids += [*user, self.token["<|assistant|>"], *answer]
            labels += [IGNORE] * (len(user) + 1 + len(given)) + answer[len(given) :]
        return ids, labels

    def _ids(self, text: str) -> list[int]:
        if text not in self.cache:
            if len(self.cache) > 200_000:
                self.cache.clear()
            self.cache[text] = self.processor.tokenizer.encode(text, add_special_tokens=False)
        return self.cache[text]

    def _pad(self, rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(ids) for ids, _ in rows)
        length = -(-longest // 32) * 32  # few distinct shapes, as oneDNN compiles kernels per shape
        ids = torch.full((len(rows), length), self.token["<pad>"])
        labels, mask = torch.full_like(ids, IGNORE), torch.zeros_like(ids)
        for row, (tokens, targets) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, : len(tokens)] = torch.tensor(targets)
            mask[row, : len(tokens)] = 1
        kinds = (ids == self.token["<|image_pad|>"]).int()
        return {"input_ids": ids, "labels": labels, "attention_mask": mask, "mm_token_type_ids": kinds}


def loss_of(
    model: hf.Qwen2_5_VLForConditionalGeneration,
    batch: dict[str, torch.Tensor],
    judgements: torch.Tensor,
    weight: float,
) -> torch.Tensor:
    """Weighted mean of the cross-entropy over the labelled tokens.

    Args:
        model: the model.
        batch: output of `Batches`; its labels are removed.
        judgements: ids of the tokens that are judgements.
        weight: weight of these tokens; all others have weight 1.
    """
    labels = batch.pop("labels")[:, 1:]
    hidden = model.model(**batch).last_hidden_state[:, :-1]
    labelled = labels != IGNORE
    targets = labels[labelled]
    losses = cross_entropy(model.lm_head(hidden[labelled]), targets, reduction="none")
    weights = torch.where(torch.isin(targets, judgements), weight, 1.0)
    return (losses * weights).sum() / weights.sum()


def build(out: Path, recipe: Recipe, state: Path, threads: int) -> dict[str, float]:
    """Pre-train the VLM and write its folder.

    Args:
        out: folder of the asset.
        recipe: hyperparameters.
        state: file of the training state; an existing one is resumed.
        threads: CPU threads.

    Returns:
        CPU seconds and number of parameters.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")  # bfloat16 matrix products on CPUs that support them
    processor = build_processor()
    model = build_model(processor, recipe.seed)
    spent = train(model, processor, recipe, state)
    publish(model, processor, out)
    return {"cpu_seconds": round(spent), "parameters": sum(p.numel() for p in model.parameters())}


def train(
    model: hf.Qwen2_5_VLForConditionalGeneration,
    processor: hf.Qwen2_5_VLProcessor,
    recipe: Recipe,
    state: Path,
    report: Callable[[int], None] = lambda step: None,
) -> float:
    """Train by the recipe, resuming from the file `state` if it exists.

    Args:
        model: the model.
        processor: its processor.
        recipe: hyperparameters.
        state: file of the training state, written every 100 steps.
        report: called with the number of completed steps whenever the state is written.

    Returns:
        CPU seconds of all sessions.
    """
    batches = Batches(processor, recipe)
    opts = optimizers(model, recipe.muon_lr, recipe.adam_lr)
    rates = learning_rates(opts)
    first_step, spent = restore(state, model, opts)
    for step in range(first_step, recipe.steps):
        start_time = time.process_time()
        phase, progress = recipe.at(step)
        text_loss = loss_of(model, batches.text_only(step, phase), batches.judgements, recipe.judgement_weight)
        text_loss.backward()
        if step % phase.picture_every == 0:
            image_batch = batches.with_images(step, phase)
            loss_of(model, image_batch, batches.judgements, recipe.judgement_weight).backward()
        update(model, opts, rates, schedule(progress, phase.steps))
        spent += time.process_time() - start_time
        if step % 50 == 49:
            log.info(
                "%s: step %d of %d, text-only loss %.3f, %.0f s",
                phase.name,
                step + 1,
                recipe.steps,
                text_loss.item(),
                spent,
            )
        if step % 100 == 99:
            save(state, model, opts, step + 1, spent)
            report(step + 1)
    return spent
