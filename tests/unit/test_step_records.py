"""Records of training steps: what is sent, that nothing that fails stops a training, and FLOPs counted by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from vlrm_ray import torchvision_shim
from vlrm_ray.config import asset_path
from vlrm_ray.monitoring import STEP_FIELDS
from vlrm_ray.reward.training.flops import model_flops, peak_flops
from vlrm_ray.reward.training.step_records import StepRecord, StepRecorder, progress_text

RECORD = StepRecord(
    round=1, epoch=1, step=12, steps=34, loss=0.4123456789, loss_critique=0.5, loss_judgement=0.1, loss_response=None,
    accuracy=0.93, grad_norm=1.5, lr=1e-4, tokens=1200, seconds=1.0, wait_seconds=0.01, tokens_per_second=1200.0,
    mfu=None, memory_gb=1.25,
)  # fmt: skip


class Board:
    """Stands for the handle of the progress board."""

    def __init__(self, error: Exception | None = None) -> None:
        self.records: list[Any] = []
        self.error, self.calls, self.add_step = error, 0, self

    def remote(self, record: Any) -> None:
        self.calls += 1
        if self.error:
            raise self.error
        self.records.append(record)


def test_a_record_is_sent_with_rounded_numbers() -> None:
    board = Board()
    recorder = StepRecorder(board)
    recorder.add(RECORD)
    recorder.close()
    assert board.records[0]["loss"] == 0.412346
    assert board.records[0]["loss_response"] is None
    assert board.records[0].keys() >= set(STEP_FIELDS)


def test_numbers_that_are_not_finite_are_sent_as_none() -> None:
    values = replace(RECORD, loss=math.nan, grad_norm=math.inf, skipped=1).as_json()
    assert (values["loss"], values["grad_norm"], values["skipped"]) == (None, None, 1)


def test_a_lost_board_does_not_stop_the_training() -> None:
    board = Board(RuntimeError("the actor is dead"))
    recorder = StepRecorder(board)
    recorder.add(RECORD)
    recorder.add(RECORD)
    recorder.close()
    assert board.calls == 1
    assert "the actor is dead" in recorder.problem
    StepRecorder(None).add(RECORD)


def test_the_progress_line_shows_step_loss_accuracy_and_speed() -> None:
    assert progress_text(RECORD.as_json()) == "train 12/34 loss 0.41 acc .93 1.2k tok/s"
    slow = replace(RECORD, accuracy=1.0, tokens_per_second=87.4)
    assert progress_text(slow.as_json()) == "train 12/34 loss 0.41 acc 1.00 87 tok/s"
    skipped = replace(RECORD, loss=math.nan, accuracy=None, skipped=1)
    assert progress_text(skipped.as_json()) == "train 12/34 skipped 1.2k tok/s"


def shipped_model() -> Any:
    """The shipped model without weights."""
    torchvision_shim.install()
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(asset_path("assets:vlm")))


LAYER = 4 * 128 * 128 + 3 * 128 * 384
"""Weights of the matrix products of a layer of the shipped model's language model: attention and MLP."""
VISION = 3 * 2 * 8 * 8 * 128 + 3 * (4 * 128 * 128 + 3 * 128 * 256)
"""The same of its vision tower: patch embedding and three blocks."""
MERGER = 512 * 512 + 512 * 128
"""The same of the layers behind four merged patches."""


def test_full_fine_tuning_takes_6_flops_per_weight_and_12_per_attended_token() -> None:
    flops = model_flops(shipped_model())
    assert flops.token == 6 * 4 * LAYER
    assert flops.output == 6 * 556 * 128
    assert flops.pair == 12 * 4 * 128
    assert flops.patch == 6 * (VISION + MERGER / 4)
    assert flops.patch_pair == 12 * 3 * 128
    # two sequences of 10 tokens with 6 learned ones in all, 55 pairs each, and an image of 16 patches
    expected = 20 * flops.token + 6 * flops.output + 110 * flops.pair + 16 * flops.patch + 256 * flops.patch_pair
    assert flops.step(20, 6, 110, 16, 256) == expected


def test_a_frozen_vision_tower_takes_2_flops_per_weight() -> None:
    model = shipped_model()
    model.model.visual.requires_grad_(False)
    flops = model_flops(model)
    assert (flops.token, flops.patch, flops.patch_pair) == (6 * 4 * LAYER, 2 * (VISION + MERGER / 4), 4 * 3 * 128)


def test_gradients_pass_through_a_frozen_language_model() -> None:
    model = shipped_model()
    model.requires_grad_(False)
    model.model.visual.requires_grad_(True)
    flops = model_flops(model)
    assert (flops.token, flops.output, flops.patch) == (4 * 4 * LAYER, 4 * 556 * 128, 6 * (VISION + MERGER / 4))


def test_adapters_take_4_flops_per_frozen_weight_and_6_per_weight_of_their_own() -> None:
    from peft import LoraConfig, get_peft_model

    targets = r".*language_model.*\.q_proj"
    model = get_peft_model(shipped_model(), LoraConfig(r=8, target_modules=targets))
    flops = model_flops(model)
    assert flops.token == 4 * 4 * LAYER + 6 * 4 * 2 * 8 * 128
    assert flops.patch == 2 * (VISION + MERGER / 4)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Tesla T4", None),
        ("cpu", None),
    ],
)
def test_peaks_are_found_by_the_name_of_the_device(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
