"""The collator: pairs as micro-batches within a token budget."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlrm_ray import torchvision_shim
from vlrm_ray.config import asset_path
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.preferences.critique import COMPACT, format_critique
from vlrm_ray.reward.training import packing
from vlrm_ray.reward.training.examples import Example
from vlrm_ray.reward.training.packing import CRITIQUE, JUDGEMENT, RESPONSE, Tree
from vlrm_ray.store.images import UNREADABLE

torchvision_shim.install()

from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

from vlrm_ray.reward.training import collator as module  # noqa: E402
from vlrm_ray.reward.training.collator import MERGED, TOO_LONG, UNLEARNED, Collator  # noqa: E402
from vlrm_ray.reward.training.losses import positions_of  # noqa: E402

ASSET = asset_path("assets:vlm")
IMAGE = Image.new("RGB", (96, 112), (200, 30, 30))
"""The processor scales it to 10 x 12 patches, of which 4 give a token; a square one has 12 x 12."""
PATCHES, IMAGE_TOKENS, BLANK_PATCHES = 10 * 12, 5 * 6, 12 * 12


@cache
def parts() -> tuple[Any, Any]:
    """Processor and model."""
    return AutoProcessor.from_pretrained(ASSET), AutoModelForImageTextToText.from_pretrained(ASSET)


def collator(max_tokens: int = 1000, packing: bool = True, shared_prefix: bool = True) -> Collator:
    processor, model = parts()
    return Collator(
        processor, ASSET, positions_of(model), judgement_weight=8.0, max_tokens=max_tokens, packing=packing,
        shared_prefix=shared_prefix,
    )  # fmt: skip


def examples(words: int = 1, critique: int = 1) -> list[Example]:
    """The three examples of a pair whose responses have so many words, and whose critiques so many facts."""
    facts = ", ".join(["red circle top left"] * critique)
    return [
        Example(COMPACT.prompt("What is left?", "red " * words), format_critique(facts, "red yes", True), True),
        Example(COMPACT.prompt("What is left?", "blue " * words), format_critique(facts, "blue no", False), True),
        Example("What is left?", "red " * words, False, 0.1),
    ]


def decoded(ids: torch.Tensor) -> str:
    return str(parts()[0].tokenizer.decode(ids))


def learned(tree: Tree) -> list[tuple[str, float, int]]:
    """The learned tokens of a tree: text, weight and kind."""
    targets = tree.targets
    return [
        (decoded(token).strip(), round(float(weight), 3), int(kind))
        for token, weight, kind in zip(targets.ids, targets.weights, targets.kinds, strict=True)
    ]


def test_the_answers_of_a_pair_are_learned_with_their_weights() -> None:
    """The judgement counts more, words like it in the critique do not, and the response counts with its own weight."""
    (tree,) = collator().pair("a", examples(), IMAGE).trees
    tokens = learned(tree)
    judgements = [(word, weight) for word, weight, kind in tokens if kind == JUDGEMENT]
    assert judgements == [("Yes", 8.0), ("No", 8.0)]
    assert {weight for _, weight, kind in tokens if kind == CRITIQUE} == {1.0}
    assert [weight for _, weight, kind in tokens if kind == RESPONSE] == [0.1] * sum(k == RESPONSE for *_, k in tokens)
    texts = [decoded(tree.targets.ids[tree.targets.kinds == kind]) for kind in (CRITIQUE, RESPONSE)]
    assert texts[0].count("<|end|>") == 2
    assert "yes" in texts[0]
    assert texts[1].startswith("red")


def test_a_description_is_learned_as_the_beginning_of_a_critique() -> None:
    """Its words have its weight, and count as a critique's; the end of the turn is not learned."""
    beginning = Example(
        COMPACT.prompt("What is left?", "red"), COMPACT.description("red circle"), False, 0.5, continues=True
    )
    (tree,) = collator().pair("a", [beginning], IMAGE).trees
    words = [(word, weight) for word, weight, kind in learned(tree) if kind == CRITIQUE]
    assert "".join(word for word, _ in words) == "Seen:redcircle."
    assert {weight for _, weight in words} == {0.5}
    assert len(words) == len(tree.targets.ids)


def test_the_image_and_the_question_of_a_pair_are_computed_once() -> None:
    (shared,), apart = collator().pair("a", examples(), IMAGE).trees, collator(shared_prefix=False)
    trees = apart.pair("a", examples(), IMAGE).trees
    patches = [int(tree.types.sum()) for tree in trees]
    assert int(shared.types.sum()) == patches[0] == patches[1] == patches[2] == IMAGE_TOKENS
    assert decoded(shared.ids).count("Question: What is left?") == 1
    assert len(shared) < sum(map(len, trees)) - 2 * IMAGE_TOKENS


def test_the_image_of_a_pair_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a photograph this takes most of the time."""
    ours, prepared = collator(), list[Any]()
    image_processor = type(parts()[0].image_processor)
    real = image_processor.__call__
    monkeypatch.setattr(
        image_processor, "__call__", lambda self, images, **o: prepared.append(1) or real(self, images, **o)
    )
    other = Image.new("RGB", IMAGE.size, (30, 30, 200))
    first, second, third = (ours.pair("a", examples(), image).image for image in (IMAGE, other, IMAGE))
    assert len(prepared) == 3
    assert all(torch.equal(first[name], third[name]) for name in first)
    assert not torch.equal(first["pixel_values"], second["pixel_values"])


def test_an_example_longer_than_the_budget_is_dropped_and_counted() -> None:
    lengths = [len(collator().sequence(example, IMAGE)[0]) for example in examples(words=1, critique=9)]
    pair = collator(lengths[2], shared_prefix=False).pair("a", examples(words=1, critique=9), IMAGE)
    assert pair.dropped == {TOO_LONG: 2}
    assert [len(tree) for tree in pair.trees] == [lengths[2]]
    nothing = collator(lengths[2] - 1).pair("a", examples(words=1, critique=9), IMAGE)
    assert (nothing.dropped, nothing.trees, nothing.image) == ({TOO_LONG: 3}, [], {})
    assert collator().micro_batches([nothing]) == []


def test_a_side_that_is_not_learned_is_left_out_and_counted() -> None:
    chosen, rejected, response = examples()
    pair = collator().pair("a", [chosen, replace(rejected, answer=""), response], IMAGE)
    assert pair.dropped == {UNLEARNED: 1}
    assert [t.targets.ids.tolist() for t in pair.trees] == [
        t.targets.ids.tolist() for t in collator().pair("a", [chosen, response], IMAGE).trees
    ]


def collator_with(template: str) -> Collator:
    """A collator with a token of two newlines, as Qwen's tokenizers have, and a chat template."""
    processor = AutoProcessor.from_pretrained(ASSET)
    processor.tokenizer.add_tokens(["\n\n"])
    processor.chat_template = template
    return Collator(processor, ASSET, positions_of(parts()[1]), judgement_weight=8.0, max_tokens=1000)


QWEN = (
    "{% for m in messages %}<|{{m.role}}|>\n{% for part in m.content %}{% if part.type == 'text' %}{{part.text}}{% else %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def test_an_answer_that_begins_inside_a_token_is_dropped_and_counted() -> None:
    """The template's newline and that of the answer are one token, which belongs to neither."""
    ours = collator_with(QWEN)
    fine, bad = Example("What?", "A star.", False), Example("What?", "\nA star.", False)
    pair = ours.pair("a", [fine, bad, bad], None)
    assert pair.dropped == {MERGED: 2}
    assert decoded(pair.trees[0].targets.ids).startswith("A star.")
    nothing = ours.pair("a", [bad], None)
    assert (nothing.trees, nothing.dropped) == ([], {MERGED: 1})


def test_the_processor_that_is_published_keeps_its_settings() -> None:
    """Those who generate with it pad on the left."""
    processor = AutoProcessor.from_pretrained(ASSET)
    processor.tokenizer.padding_side = "left"
    ours = Collator(processor, ASSET, positions_of(parts()[1]), judgement_weight=8.0, max_tokens=1000, packing=False)
    assert len(ours.micro_batches([ours.pair("a", examples(5, 3), IMAGE)])) == 1
    assert processor.tokenizer.padding_side == "left"


def test_a_template_that_merges_every_answer_is_refused() -> None:
    with pytest.raises(UserError, match=r"the chat template of .* merges the first token of every answer"):
        collator_with(QWEN.replace("<|end|>", "\n"))


def test_a_template_that_opens_a_thought_before_an_answer_is_refused() -> None:
    thinking = QWEN.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")
    with pytest.raises(UserError, match="the model's chat template writes something before an answer"):
        collator_with(thinking)


def test_a_pair_whose_image_is_gone_is_dropped_and_a_silent_storage_ends_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = collator().read_pair("a", examples(), str(tmp_path / "gone.png"))
    assert (gone.trees, gone.dropped) == ([], {"image_missing": 3})
    IMAGE.save(tmp_path / "a.png")
    assert len(collator().read_pair("a", examples(), str(tmp_path / "a.png")).trees) == 1

    def silent(*_: object) -> None:
        raise BadImage(UNREADABLE)

    monkeypatch.setattr(module, "load_image", silent)
    with pytest.raises(StorageError, match="of pair a cannot be read"):
        collator().read_pair("a", examples(), str(tmp_path / "a.png"))


def test_a_pair_larger_than_the_budget_is_split_into_its_sequences() -> None:
    """Its image then goes through the vision tower in each of its micro-batches."""
    longest = max(len(collator().sequence(example, IMAGE)[0]) for example in examples())
    small = collator(longest)
    pair = small.pair("a", examples(), IMAGE)
    assert (len(pair.trees), pair.dropped) == (3, {})
    batches = small.micro_batches([pair])
    assert len(batches) == 3
    assert {batch.patches for batch in batches} == {PATCHES}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4), st.booleans()), min_size=1, max_size=5),
    st.integers(100, 400),
    st.booleans(),
    st.booleans(),
)
def test_micro_batches_keep_the_budget_and_every_example(
    sizes: list[tuple[int, int, bool]], budget: int, packing: bool, shared: bool
) -> None:
    """The budget counts padding. A blank image, of a few tokens, is added to it."""
    ours = collator(budget, packing, shared)
    pairs = [ours.pair(str(i), examples(*size[:2]), IMAGE if size[2] else None) for i, size in enumerate(sizes)]
    batches = ours.micro_batches(pairs)
    for batch in batches:
        blank = batch.patches == BLANK_PATCHES
        if batch.mask is None:
            assert batch.ids.numel() - blank * len(ours.blank.trees[0]) <= budget
        else:
            lengths = batch.mask.sum(1)[: len(batch.ids) - blank]
            assert len(lengths) * int(lengths.max()) <= budget
        assert batch.tokens == (batch.ids.numel() if batch.mask is None else int(batch.mask.sum()))
        assert batch.patches in (BLANK_PATCHES, PATCHES * len(set(batch.uses)))
    kept = [tree for pair in pairs for tree in pair.trees]
    assert sum(sum(pair.dropped.values()) for pair in pairs) + sum(map(sequences_of, kept)) == 3 * len(sizes)
    assert sum(batch.tokens for batch in batches) >= sum(map(len, kept))
    wanted = sum(float(tree.targets.weights.sum()) for tree in kept)
    assert sum(float(batch.targets.weights.sum()) for batch in batches) == pytest.approx(wanted)


def sequences_of(tree: Tree) -> int:
    """Number of a tree's sequences: of the ends of answers."""
    return decoded(tree.targets.ids).count("<|end|>")


def test_a_worker_without_pairs_gets_a_blank_image_without_weight() -> None:
    empty = collator().empty()
    assert (float(empty.targets.weights.sum()), empty.uses) == (0.0, (0,))
    assert empty.patches > 0


def test_masks_are_computed_only_where_attention_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With long trees they are the largest part of a micro-batch, and attention on GPUs takes none."""
    made = list[Tree]()
    monkeypatch.setattr(packing, "mask_of", lambda tree: made.append(tree) or torch.zeros(len(tree), len(tree)))
    (batch,) = collator().micro_batches([collator().pair("a", examples(), IMAGE)])
    on_gpu = batch.to(torch.device("meta"))
    assert made == []
    assert on_gpu.packing is not None and on_gpu.packing.query_starts.is_meta
    assert on_gpu.packing.trees == ()
    assert batch.packing is not None
    assert [mask.shape for mask in (*batch.packing.masks, *batch.packing.masks)] == [(batch.tokens, batch.tokens)] * 2
    assert len(made) == 1
    assert batch.to(torch.device("cpu")).tokens == batch.tokens


def test_padded_rows_are_as_long_as_their_longest_sequence() -> None:
    (batch,) = collator(packing=False).micro_batches([collator(packing=False).pair("a", examples(5, 3), IMAGE)])
    lengths = [len(collator().sequence(example, IMAGE)[0]) for example in examples(5, 3)]
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == lengths
    assert batch.ids.shape == (3, max(lengths))
    assert batch.packing is None
    assert batch.uses == (0, 0, 0)
    assert batch.patches == PATCHES


def test_a_model_whose_images_do_not_fit_into_one_tensor_is_named() -> None:
    ours = collator()
    pairs = [ours.pair(name, examples(), IMAGE) for name in "ab"]
    pairs[1].image["pixel_values"] = pairs[1].image["pixel_values"][:, :-1]
    with pytest.raises(UserError, match=rf"the processor of {ASSET} makes pixel_values of different shapes"):
        ours.micro_batches(pairs)


def test_pairs_use_their_own_images() -> None:
    """A pair without an image lies between two with one."""
    ours = collator()
    other = Image.new("RGB", (96, 96))
    batch = ours.micro_batches([
        ours.pair("a", examples(), IMAGE), ours.pair("b", examples(), None), ours.pair("c", examples(), other)
    ])[0]  # fmt: skip
    assert batch.uses == (0, 1)
    assert batch.images["image_grid_thw"].prod(-1).tolist() == [PATCHES, 12 * 12]
    assert int((batch.ids == 6).sum()) == IMAGE_TOKENS + 6 * 6
