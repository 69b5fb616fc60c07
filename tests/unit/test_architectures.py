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
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

from vlrm_ray.reward.training import packed_attention  # noqa: E402
from vlrm_ray.reward.training.collator import MicroBatch, _packed, _padded  # noqa: E402
from vlrm_ray.reward.training.losses import Learner  # noqa: E402

IMAGE_TOKEN = 5
ANSWERS = ((10, 11, 12), (13, 14))
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


Inputs = dict[str, torch.Tensor]
"""A processor's outputs for an image."""


def llava() -> tuple[Any, list[Inputs], list[int]]:
    """LLaVA, whose CLIP tower computes an image by itself; the inputs of two images, and their numbers of tokens."""
    vision = CLIPVisionConfig(**SIZES, image_size=28, patch_size=14)
    text = LlamaConfig(**SIZES, vocab_size=100)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN)
    images = [{"pixel_values": torch.randn(1, 3, 28, 28)} for _ in range(2)]
    return LlavaForConditionalGeneration(config), images, [4, 4]


def intern_vl() -> tuple[Any, list[Inputs], list[int]]:
    """InternVL, which computes the features of all tiles of all images as one tensor."""
    vision = InternVLVisionConfig(**SIZES, image_size=[28, 28], patch_size=[7, 7])
    text = Qwen2Config(**SIZES, num_key_value_heads=2, vocab_size=100)
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN, downsample_ratio=0.5)
    images = [{"pixel_values": torch.randn(tiles, 3, 28, 28)} for tiles in (1, 3)]
    return InternVLForConditionalGeneration(config), images, [4, 12]


def onevision() -> tuple[Any, list[Inputs], list[int]]:
    """LLaVA-OneVision, which gets the tiles of an image as one row; a tile has 16 tokens, a row of patches a newline."""
    vision = SiglipVisionConfig(**SIZES, image_size=28, patch_size=7, vision_use_head=False)
    text = Qwen2Config(**SIZES, num_key_value_heads=2, vocab_size=100)
    config = LlavaOnevisionConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN, image_grid_pinpoints=[[28, 28], [28, 56]]
    )
    images = [
        {"pixel_values": torch.randn(1, 1 + width // 28, 3, 28, 28), "image_sizes": torch.tensor([[28, width]])}
        for width in (28, 56)
    ]
    return LlavaOnevisionForConditionalGeneration(config), images, [16 + 4 * (4 + 1), 16 + 4 * (8 + 1)]


def qwen3_vl() -> tuple[Any, list[Inputs], list[int]]:
    """Qwen3-VL, whose tower adds features to several layers of the decoder."""
    text = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100}
    text["rope_scaling"] = {"rope_type": "default", "mrope_section": [4, 2, 2]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 14, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=IMAGE_TOKEN, vision_start_token_id=6,
        vision_end_token_id=7, video_token_id=8,
    )  # fmt: skip
    images = [
        {"pixel_values": torch.randn(4 * width, 3 * 2 * 14 * 14), "image_grid_thw": torch.tensor([[1, 4, width]])}
        for width in (4, 6)
    ]
    return Qwen3VLForConditionalGeneration(config), images, [4, 6]


def gemma3() -> tuple[Any, list[Inputs], list[int]]:
    """Gemma3, whose tokens of an image attend to each other in both directions."""
    vision = SiglipVisionConfig(**SIZES, image_size=28, patch_size=14)
    text = Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=16, vocab_size=100, sliding_window=32)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_id=IMAGE_TOKEN)
    images = [{"pixel_values": torch.randn(1, 3, 28, 28)} for _ in range(2)]
    return Gemma3ForConditionalGeneration(config), images, [4, 4]


def sequence(answer: Sequence[int], axes: int, tokens: int) -> TokenSequence:
    """A prompt with an image of so many tokens, and an answer that is learned."""
    prompt = [1, 6, *[IMAGE_TOKEN] * tokens, 7, 9]
    ids = torch.tensor([*prompt, *answer])
    weights = (torch.arange(len(ids)) >= len(prompt)).float()
    kinds = torch.full((len(ids),), RESPONSE)
    return TokenSequence(ids, torch.arange(len(ids)).expand(axes, -1), (ids == IMAGE_TOKEN).long(), weights, kinds)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def alone(model: Any, images: Sequence[Inputs], answers: Sequence[Sequence[TokenSequence]]) -> dict[str, torch.Tensor]:
    """Gradients of plain forward passes, one per image and each of its answers."""
    for image, of_image in zip(images, answers, strict=True):
        for one in of_image:
            positions = one.positions[:, None].squeeze(0)
            types = {"token_type_ids": one.types[None]} if isinstance(model, Gemma3ForConditionalGeneration) else {}
            hidden = model.base_model(input_ids=one.ids[None], position_ids=positions, **types, **image)
            logits = model.lm_head(hidden.last_hidden_state)[0, one.prompt_length - 1 : -1]
            cross_entropy(logits, one.ids[one.prompt_length :], reduction="sum").backward()
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
@pytest.mark.parametrize(("new", "axes"), [(llava, 1), (intern_vl, 1), (onevision, 1), (qwen3_vl, 3)])
def test_packed_sequences_of_two_images_train_like_each_alone(new: Any, axes: int, shared: bool) -> None:
    """Without a shared prefix an image is used by each answer; the two images may have different sizes."""
    torch.manual_seed(0)
    model, images, tokens = new()
    answers = [[sequence(answer, axes, count) for answer in ANSWERS] for count in tokens]
    expected = alone(model.train(), images, answers)
    packed_attention.install(model)
    trees = [merge(of_image, shared_prefix=shared) for of_image in answers]
    batch = _packed(trees[0] + trees[1], images, tuple(index for index in range(2) for _ in trees[index]))
    assert_trained_like(model, batch, expected)


def test_padded_sequences_whose_images_attend_in_both_directions_train_like_each_alone() -> None:
    """Such models are refused with packing, and told to be trained without."""
    torch.manual_seed(0)
    model, images, tokens = gemma3()
    answers = [[sequence(answer, 1, count) for answer in ANSWERS] for count in tokens]
    expected = alone(model.train(), images, answers)
    trees = [merge(of_image, shared_prefix=False) for of_image in answers]
    assert_trained_like(model, _padded(trees[0] + trees[1], images, (0, 0, 1, 1)), expected)
