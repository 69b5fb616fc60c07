"""Models of other architectures than the shipped one: their micro-batches train like each sequence alone."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from vlrm_ray import torchvision_shim
from vlrm_ray.engines import LabelTokens
from vlrm_ray.reward.training.packing import RESPONSE, TokenSequence, merge

torchvision_shim.install()

from transformers import (  # noqa: E402
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

from vlrm_ray.reward.training import packed_attention  # noqa: E402
from vlrm_ray.reward.training.collator import MicroBatch, _packed, _padded  # noqa: E402
from vlrm_ray.reward.training.losses import Learner  # noqa: E402

IMAGE_TOKEN, PROMPT = 5, (1, 6, 5, 5, 5, 5, 7, 9)
ANSWERS = ((10, 11, 12), (13, 14))
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def llava() -> tuple[Any, dict[str, torch.Tensor]]:
    """LLaVA, whose CLIP tower computes an image by itself, and the inputs of two images of four tokens each."""
    vision = CLIPVisionConfig(**SIZES, image_size=28, patch_size=14)
    text = LlamaConfig(**SIZES, vocab_size=100)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN)
    return LlavaForConditionalGeneration(config), {"pixel_values": torch.randn(2, 3, 28, 28)}


def qwen3_vl() -> tuple[Any, dict[str, torch.Tensor]]:
    """Qwen3-VL, whose tower adds features to several layers of the decoder."""
    text = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100}
    text["rope_scaling"] = {"rope_type": "default", "mrope_section": [4, 2, 2]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 14, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=IMAGE_TOKEN, vision_start_token_id=6,
        vision_end_token_id=7, video_token_id=8,
    )  # fmt: skip
    images = {"pixel_values": torch.randn(32, 3 * 2 * 14 * 14), "image_grid_thw": torch.tensor([[1, 4, 4]] * 2)}
    return Qwen3VLForConditionalGeneration(config), images


def gemma3() -> tuple[Any, dict[str, torch.Tensor]]:
    """Gemma3, whose tokens of an image attend to each other in both directions."""
    vision = SiglipVisionConfig(**SIZES, image_size=28, patch_size=14)
    text = Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=16, vocab_size=100, sliding_window=32)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_id=IMAGE_TOKEN)
    return Gemma3ForConditionalGeneration(config), {"pixel_values": torch.randn(2, 3, 28, 28)}


def sequence(answer: Sequence[int], axes: int) -> TokenSequence:
    """A prompt with an image, and an answer that is learned."""
    ids = torch.tensor([*PROMPT, *answer])
    weights = (torch.arange(len(ids)) >= len(PROMPT)).float()
    kinds = torch.full((len(ids),), RESPONSE)
    return TokenSequence(ids, torch.arange(len(ids)).expand(axes, -1), (ids == IMAGE_TOKEN).long(), weights, kinds)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def alone(model: Any, images: dict[str, torch.Tensor], answers: Sequence[TokenSequence]) -> dict[str, torch.Tensor]:
    """Gradients of plain forward passes, one per image and answer."""
    for index in range(2):
        rows = {name: value.chunk(2)[index] for name, value in images.items()}
        for one in answers:
            positions = one.positions[:, None].squeeze(0)
            types = {"token_type_ids": one.types[None]} if isinstance(model, Gemma3ForConditionalGeneration) else {}
            hidden = model.base_model(input_ids=one.ids[None], position_ids=positions, **types, **rows)
            logits = model.lm_head(hidden.last_hidden_state)[0, len(PROMPT) - 1 : -1]
            cross_entropy(logits, one.ids[len(PROMPT) :], reduction="sum").backward()
    found = gradients(model)
    model.zero_grad()
    return found


def assert_trained_like(model: Any, batch: MicroBatch, expected: dict[str, torch.Tensor]) -> None:
    Learner(model, LabelTokens(frozenset([20]), frozenset([21])))(batch).total.backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    largest = max(float(grad.abs().max()) for grad in expected.values())
    for name, grad in expected.items():
        assert float((found[name] - grad).abs().max()) <= 1e-5 * largest, name


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("new", "axes"), [(llava, 1), (qwen3_vl, 3)])
def test_packed_sequences_of_two_images_train_like_each_alone(new: Any, axes: int, shared: bool) -> None:
    torch.manual_seed(0)
    model, images = new()
    answers = [sequence(answer, axes) for answer in ANSWERS]
    expected = alone(model.train(), images, answers)
    packed_attention.install(model)
    trees = merge(answers, shared_prefix=shared)
    batch = _packed(trees * 2, images, tuple(index for index in range(2) for _ in trees))
    assert_trained_like(model, batch, expected)


def test_padded_sequences_whose_images_attend_in_both_directions_train_like_each_alone() -> None:
    """Such models are refused with packing, and told to be trained without."""
    torch.manual_seed(0)
    model, images = gemma3()
    answers = [sequence(answer, axes=1) for answer in ANSWERS]
    expected = alone(model.train(), images, answers)
    trees = merge(answers, shared_prefix=False)
    assert_trained_like(model, _padded(trees * 2, images, (0, 0, 1, 1)), expected)
