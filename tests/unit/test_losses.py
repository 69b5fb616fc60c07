"""Packed, prefix-shared, checkpointed and padded micro-batches, on one and two ranks, train like each sequence alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from tests.unit.ranks import run_ranks
from vlrm_ray import torchvision_shim
from vlrm_ray.config import asset_path
from vlrm_ray.preferences.critique import COMPACT, format_critique
from vlrm_ray.reward.training.examples import Example
from vlrm_ray.reward.training.packing import CRITIQUE, JUDGEMENT, RESPONSE

torchvision_shim.install()

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor  # noqa: E402

from vlrm_ray.reward.training import losses, packed_attention  # noqa: E402
from vlrm_ray.reward.training.collator import Collator, MicroBatch  # noqa: E402
from vlrm_ray.reward.training.losses import Learner, positions_of  # noqa: E402
from vlrm_ray.reward.training.sharded_model import shard  # noqa: E402

ASSET, CPU = asset_path("assets:vlm"), torch.device("cpu")
TOLERANCE = 1e-5
"""Largest difference of a loss relative to it, and of a gradient relative to the largest gradient."""
JUDGEMENT_WEIGHT, RESPONSE_WEIGHT = 8.0, 0.1
VARIANTS = {
    "padded": (False, False, False),
    "packed": (True, False, False),
    "packed, checkpointed": (True, False, True),
    "prefix-shared": (True, True, False),
    "prefix-shared, checkpointed": (True, True, True),
}
"""Values of `packing`, `shared_prefix`, and whether blocks are checkpointed."""
Gradients = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def products_in_float32() -> Iterator[None]:
    """Other settings multiply in bfloat16, whose rounding hides errors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Pair:
    """A pair to learn: its texts, and the side lengths of its image, None without one."""

    question: str
    chosen: str
    rejected: str
    facts: str
    image: tuple[int, int] | None

    @property
    def examples(self) -> list[Example]:
        """Two critiques and the response."""
        return [
            Example(COMPACT.prompt(self.question, self.chosen), format_critique(self.facts, "red yes", True), True),
            Example(COMPACT.prompt(self.question, self.rejected), format_critique(self.facts, "blue no", False), True),
            Example(self.question, self.chosen, False, RESPONSE_WEIGHT),
        ]

    @property
    def pixels(self) -> Image.Image | None:
        """Noise of the image's size."""
        if self.image is None:
            return None
        generator = torch.Generator().manual_seed(sum(self.image))
        noise = torch.randint(0, 255, (*self.image, 3), generator=generator, dtype=torch.uint8)
        return Image.fromarray(noise.numpy())


VOCABULARY = ("there", "is", "a", "red", "blue", "circle", "star", "at", "the", "top", "left")
WORDS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=12)
TEXTS = WORDS.map(" ".join)
SIZES = st.none() | st.sampled_from([(40, 40), (48, 130), (100, 60)])
PAIRS = st.lists(st.builds(Pair, TEXTS, TEXTS, TEXTS, TEXTS, SIZES), min_size=1, max_size=4)
TWO = [
    Pair("what do you see", "there is a red circle", "there is a star", "red circle", (100, 60)),
    Pair("what is left", "a star", "a star", "blue star top left", (48, 130)),
]


@cache
def processor() -> Any:
    return AutoProcessor.from_pretrained(ASSET)


def new_model(tied: bool = True) -> Any:
    """A small Qwen2.5-VL with random weights, grouped key heads and a vision block with windows of unequal sizes."""
    config = AutoConfig.from_pretrained(ASSET)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    text, vision = config.text_config, config.vision_config
    text.num_hidden_layers, text.num_key_value_heads, text.layer_types = 2, 2, ["full_attention"] * 2
    text.initializer_range = vision.initializer_range = 0.08
    vision.depth, vision.fullatt_block_indexes, vision.window_size = 2, [1], 48
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config, dtype=torch.float32).train()


def new_learner(packing: bool, checkpointing: bool = False, tied: bool = True) -> Learner:
    """The model with its losses, prepared as the training loop does."""
    model = new_model(tied)
    if packing:
        packed_attention.install(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Learner(model, new_collator().labels)


def new_collator(packing: bool = True, shared_prefix: bool = True, max_tokens: int = 300) -> Collator:
    return Collator(
        processor(), ASSET, positions_of(new_model()), judgement_weight=JUDGEMENT_WEIGHT, max_tokens=max_tokens,
        packing=packing, shared_prefix=shared_prefix,
    )  # fmt: skip


def micro_batches(collator: Collator, pairs: Sequence[Pair]) -> list[MicroBatch]:
    return collator.micro_batches([collator.pair(str(i), pair.examples, pair.pixels) for i, pair in enumerate(pairs)])


def gradients(model: Any) -> Gradients:
    """The gradient of each parameter that has one, whole."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad.clone() for name, grad in found.items()}


def trained(learner: Learner, batches: Sequence[MicroBatch]) -> tuple[float, Gradients, torch.Tensor]:
    """Sums over micro-batches: loss, gradients and parts."""
    learner.zero_grad()
    total, parts = 0.0, torch.zeros(3, 3)
    for batch in batches:
        found = learner(batch)
        found.total.backward()
        total, parts = total + float(found.total.detach()), parts + found.parts
    return total, gradients(learner.model), parts


def alone(pairs: Sequence[Pair], tied: bool = True) -> tuple[float, Gradients, torch.Tensor]:
    """The same of plain forward passes of transformers, one per sequence, with full logits."""
    model, labels = new_model(tied), new_collator().labels
    total, parts = 0.0, torch.zeros(3, 3)
    for pair in pairs:
        for example in pair.examples:
            inputs, start = encoded(example, pair.pixels)
            answer = inputs["input_ids"][0, start:]
            logits = model(**inputs, use_cache=False).logits[0, start - 1 : -1]
            weights, kinds = torch.full((len(answer),), example.weight), torch.full((len(answer),), RESPONSE)
            if example.judged:
                kinds[:] = CRITIQUE
                last = int(torch.isin(answer, torch.tensor(labels.all)).nonzero()[-1])
                weights[last], kinds[last] = JUDGEMENT_WEIGHT, JUDGEMENT
            each = cross_entropy(logits, answer, reduction="none")
            loss = (each * weights).sum()
            loss.backward()
            total += float(loss.detach())
            for kind in range(3):
                parts[kind, 0] += each[kinds == kind].detach().sum()
                parts[kind, 1] += (kinds == kind).sum()
            if example.judged:
                yes, no = (logits[last, sorted(ids)].logsumexp(-1) for ids in (labels.yes, labels.no))
                parts[JUDGEMENT, 2] += (yes > no) == (int(answer[last]) in labels.yes)
    return total, gradients(model), parts


def encoded(example: Example, image: Image.Image | None) -> tuple[Mapping[str, torch.Tensor], int]:
    """Inputs of the model for an example, and the index of its first learned token."""
    parts = [{"type": "text", "text": example.text}]
    user = {"role": "user", "content": [{"type": "image"}, *parts] if image else parts}
    turn = {"role": "assistant", "content": [{"type": "text", "text": example.answer}]}
    prompt = processor().apply_chat_template([user], add_generation_prompt=True, tokenize=False)
    whole = processor().apply_chat_template([user, turn], tokenize=False)
    images = [[image]] if image else None
    lengths = [
        processor()(text=[text], images=images, return_tensors="pt")["input_ids"].shape[1] for text in (prompt, whole)
    ]
    return processor()(text=[whole], images=images, return_tensors="pt"), lengths[0]


def assert_equal(
    found: tuple[float, Gradients, torch.Tensor], expected: tuple[float, Gradients, torch.Tensor], of: str
) -> None:
    """Check loss, all gradients and all parts. Plain forward passes without images give the vision tower none."""
    assert found[0] == pytest.approx(expected[0], rel=TOLERANCE), of
    largest = max(float(grad.abs().max()) for grad in expected[1].values())
    assert found[1].keys() >= expected[1].keys(), of
    for name, grad in found[1].items():
        difference = float((grad - expected[1].get(name, torch.zeros_like(grad))).abs().max())
        assert difference <= TOLERANCE * largest, (of, name, difference / largest)
    assert torch.allclose(found[2], expected[2], rtol=TOLERANCE), of


@settings(max_examples=8, deadline=None, derandomize=True)
@given(PAIRS, st.integers(180, 600))
def test_every_way_to_form_micro_batches_gives_the_same_loss_and_gradients(pairs: list[Pair], budget: int) -> None:
    expected = alone(pairs)
    for name, (packing, shared, checkpointing) in VARIANTS.items():
        batches = micro_batches(new_collator(packing, shared, budget), pairs)
        assert_equal(trained(new_learner(packing, checkpointing), batches), expected, name)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.lists(PAIRS, min_size=3, max_size=3))
def test_two_ranks_give_the_same_loss_and_gradients(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[Pair]]
) -> None:
    """The ranks have different numbers of micro-batches, or none; the last round has one pair."""
    rounds[-1] = rounds[-1][:1]

    def on_rank(rank: int, world: int) -> list[tuple[float, Gradients, torch.Tensor]]:
        torch.set_float32_matmul_precision("highest")
        collator, results = new_collator(), []
        for shared, pairs in zip((True, False, True), rounds, strict=True):
            learner: Any = shard(new_learner(True, checkpointing=shared), CPU, world)
            collator.shared_prefix = shared
            batches = micro_batches(collator, pairs[rank::world])
            most = torch.tensor(max(1, len(batches)))
            dist.all_reduce(most, dist.ReduceOp.MAX)
            batches += [collator.empty()] * (int(most) - len(batches))
            results.append(trained_by_all(learner, batches, world))
        return results

    expected = [alone(pairs) for pairs in rounds]
    for results in run_ranks(2, tmp_path_factory.mktemp("ranks"), on_rank):
        for index, (found, reference) in enumerate(zip(results, expected, strict=True)):
            assert_equal(found, reference, f"round {index}")


def trained_by_all(learner: Any, batches: Sequence[MicroBatch], world: int) -> tuple[float, Gradients, torch.Tensor]:
    """`trained`, summed over ranks, of which each has as many micro-batches."""
    total, grads, parts = trained(learner, batches)
    loss = torch.tensor(total)
    for tensor in (loss, parts):
        dist.all_reduce(tensor)
    return float(loss), {name: grad * world for name, grad in grads.items()}, parts  # FSDP averages gradients


def test_ranks_may_use_their_images_differently_often(tmp_path: Path) -> None:
    """FSDP gathers an embedding of its own and the vision tower in the same order on all ranks, whatever their batches."""

    def on_rank(rank: int, world: int) -> list[tuple[float, Gradients, torch.Tensor]]:
        torch.set_float32_matmul_precision("highest")
        once, thrice = new_collator(max_tokens=600), new_collator(shared_prefix=False, max_tokens=600)
        (shared,), (apart,), blank = micro_batches(once, TWO[:1]), micro_batches(thrice, TWO[1:]), once.empty()
        assert (shared.uses, apart.uses, blank.uses) == ((0,), (0, 0, 0), (0,))
        results = []
        for of_ranks in ((shared, apart), (apart, blank), (blank, shared)):
            learner: Any = shard(new_learner(True, tied=False), CPU, world)
            results.append(trained_by_all(learner, [of_ranks[rank]], world))
        return results

    expected = [alone(pairs, tied=False) for pairs in (TWO, TWO[1:], TWO[:1])]
    for results in run_ranks(2, tmp_path, on_rank):
        for found, reference, ranks in zip(
            results, expected, ("once, thrice", "thrice, blank", "blank, once"), strict=True
        ):
            assert_equal(found, reference, ranks)


def patches_seen(learner: Learner, batch: MicroBatch) -> list[int]:
    """Numbers of patches of each forward pass of the vision tower."""
    seen: list[int] = []
    learner.model.base_model.visual.register_forward_hook(
        lambda _, inputs, kwargs, output: seen.append(len((*inputs, *kwargs.values())[0])), with_kwargs=True
    )
    learner(batch)
    return seen


def test_a_pairs_image_goes_through_the_vision_tower_once() -> None:
    for packing, shared, checkpointing in VARIANTS.values():
        learner = new_learner(packing, checkpointing)
        (batch,) = micro_batches(new_collator(packing, shared, 2000), TWO)
        seen = patches_seen(learner, batch)
        patches = [len(encoded(pair.examples[0], pair.pixels)[0]["pixel_values"]) for pair in TWO]
        assert seen == [sum(patches)]
        assert batch.patches == sum(patches)


def test_a_model_that_takes_no_features_gets_the_image_for_each_use() -> None:
    """The result is the same, for models whose forward pass cannot take the features of images."""
    for packing, shared in ((False, False), (True, False)):
        learner = new_learner(packing)
        learner.takes_features = False
        assert_equal(trained(learner, micro_batches(new_collator(packing, shared), TWO)), alone(TWO), str(packing))


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_the_output_layer_in_chunks_gives_the_same(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk's logits are computed again in the backward pass: only those of one chunk exist at a time."""
    (batch,) = micro_batches(new_collator(max_tokens=2000), TWO)
    learner = new_learner(packing=True)
    expected = trained(learner, [batch])
    monkeypatch.setattr(losses, "CHUNK", chunk)
    rows: list[int] = []
    learner.model.lm_head.register_forward_hook(lambda _, inputs, output: rows.append(len(output)))
    assert_equal(trained(learner, [batch]), expected, str(chunk))
    assert max(rows) == chunk
    assert sum(rows) == 2 * len(batch.targets.ids)


def test_logits_are_computed_at_learned_positions_only() -> None:
    (batch,) = micro_batches(new_collator(max_tokens=2000), TWO)
    learner, shapes = new_learner(packing=True), list[torch.Size]()
    learner.model.lm_head.register_forward_hook(lambda _, inputs, output: shapes.append(output.shape))
    learner(batch)
    learned = [inputs["input_ids"].shape[1] - start for inputs, start in
               (encoded(example, pair.pixels) for pair in TWO for example in pair.examples)]  # fmt: skip
    assert shapes == [(sum(learned), learner.model.config.text_config.vocab_size)]


def test_a_blank_image_changes_nothing_but_gives_every_parameter_a_gradient() -> None:
    """All ranks must run the vision tower in every micro-batch."""
    text_only = [Pair("what is a star", "a circle", "a star", "no star", None)]
    batches = micro_batches(new_collator(), text_only)
    assert all(batch.patches for batch in batches)
    learner = new_learner(packing=True)
    found = trained(learner, batches)
    assert_equal(found, alone(text_only), "blank")
    assert found[1].keys() == dict(learner.model.named_parameters()).keys()
    loss, grads, parts = trained(learner, [new_collator().empty()])
    assert loss == 0
    assert parts.tolist() == [[0.0] * 3] * 3
    assert grads.keys() == found[1].keys()
    assert all(not grad.any() for grad in grads.values())
