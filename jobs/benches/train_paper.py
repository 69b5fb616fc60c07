"""Step time and memory of large trainings on H100 GPUs, computed from parameters, FLOPs and measured shares of the peak.

A step is one micro-batch on each GPU; gradient accumulation repeats it. FSDP gathers every unit's weights in bfloat16 for
the forward and again for the backward pass, and reduces the gradients of trained ones in float32:

    forward   max(compute, all-gather)                      of all units
    backward  max(compute, all-gather + reduce-scatter)     of all units that gradients pass through
    exposed   what communication takes longer than computing, plus the first unit's all-gather and the last one's
              reduce-scatter, which nothing can hide

All nodes have 8 GPUs, with a network port each. To gather B bytes, each GPU receives B over NVLink, and each node receives
the other nodes' share over its 8 ports; the slower of both counts.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Lora, Train, asset_path
from vlrm_ray.reward.training.flops import model_flops

torchvision_shim.install()

from vlrm_ray.reward.training.losses import CHUNK  # noqa: E402
from vlrm_ray.reward.training.sharded_model import base_model, block_modules, meta_model, vision_tower  # noqa: E402

PEAK = 989e12
"""FLOP/s of an H100 in bfloat16."""
NVLINK, PORT, EFFICIENCY = 450e9, 50e9, 0.8
"""Bytes per second and direction of a GPU's NVLink and of its network port, and the share that collectives reach."""
GPUS_PER_NODE, GPU_GB = 8, 80
ACTIVATION_BYTES, CHECKPOINT_BYTES = 45, 2
"""Bytes for each token, layer and hidden dimension that stay for the backward pass, without and with checkpointing.

The first fits the measured peaks on one GPU, compiled: 59.0 GB of 7B with LoRA, 81.0 GB of 3B with all weights.
"""
OTHER_GB = 1.5
"""Memory beside all that is counted (allocator, libraries); fits the 57.4 GB of the 3B training with checkpointing."""
TOKENS = 8192
"""Tokens of a micro-batch."""
PATCHES, LEARNED, LENGTH = 2304 / 2457, 0.2, 819
"""Patches per token (a pair's image once for its three sequences), share of learned tokens, tokens of a sequence."""
SHAPES = {
    "3B": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
           "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
    "32B": {"hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
            "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": False},
}  # fmt: skip
"""Language models of Qwen2.5-VL."""
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
          "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}  # fmt: skip
"""Their vision tower."""


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        shape: key of `SHAPES`.
        lora: rank of the adapters; 0 trains all weights but the vision tower's.
        mfu: measured share of the peak on one GPU, without checkpointing, compiled.
        checkpointing: whether blocks are computed twice.
        gpus: numbers of GPUs.
    """

    shape: str
    lora: int
    mfu: float
    checkpointing: bool = False
    gpus: tuple[int, ...] = (8, 16, 64)

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.shape} {'LoRA' if self.lora else 'full'}{', checkpointing' if self.checkpointing else ''}"


CASES = (
    Case("7B", 64, 0.43), Case("3B", 0, 0.38), Case("7B", 0, 0.38), Case("7B", 0, 0.38, checkpointing=True),
    Case("32B", 0, 0.38, checkpointing=True),
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model in parameters and FLOPs.

    Attributes:
        trained: trained parameters.
        frozen: parameters that are not trained.
        vision: those of them in the vision tower, which no gradient passes through.
        unit: parameters of the largest block.
        root: parameters of the unit with the output layer, whose weights stay gathered.
        flops: of a token's share of a step.
        layers_times_width: product of the language model's layers and hidden dimension.
        width: hidden dimension.
        vocabulary: number of token ids.
    """

    trained: int
    frozen: int
    vision: int
    unit: int
    root: int
    flops: float
    layers_times_width: int
    width: int
    vocabulary: int


@dataclass(frozen=True)
class Step:
    """A step on some GPUs, in seconds and bytes.

    Attributes:
        compute: seconds of forward and backward pass.
        communication: seconds of all collectives.
        exposed: seconds of them that are not hidden.
        binding_tokens: tokens per GPU and micro-batch below which communication takes longer than computing.
        memory: peak bytes of a GPU, by what takes them.
    """

    compute: float
    communication: float
    exposed: float
    binding_tokens: float
    memory: dict[str, float] = field(default_factory=dict)


def sizes_of(case: Case, length: float = LENGTH, patches: float = PATCHES) -> Sizes:
    """Sizes of a case's model, which is built without memory as the trainer builds it.

    Args:
        case: the training.
        length: tokens of a sequence.
        patches: patches per token.
    """
    settings = Train(freeze=None if case.lora else ("vision",), lora=Lora(rank=case.lora))
    with tempfile.TemporaryDirectory() as folder:
        _write_config(Path(folder), SHAPES[case.shape])
        model = meta_model(folder, settings, torch.device("cpu"))
    base: Any = base_model(model)
    trained = _count(p for p in model.parameters() if p.requires_grad)
    tower = vision_tower(base)
    assert tower is not None
    flops, text = model_flops(model), base.config.get_text_config()
    return Sizes(
        trained=trained,
        frozen=_count(model.parameters()) - trained,
        vision=_count(tower.parameters()),
        unit=max(_count(block.parameters()) for block in block_modules(model)),
        root=base.get_output_embeddings().weight.numel(),
        flops=flops.step(1, 0, length / 2) + flops.output * LEARNED + flops.patch * patches,
        layers_times_width=text.num_hidden_layers * text.hidden_size,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
    )


def step_of(case: Case, sizes: Sizes, gpus: int, tokens: int = TOKENS) -> Step:
    """Time and memory of a step with `tokens` tokens on each GPU."""
    forward_share = 1 / 2 if case.lora else 1 / 3
    recomputed = 1 + forward_share * case.checkpointing
    per_token = sizes.flops / (PEAK * case.mfu)
    language = sizes.trained + sizes.frozen - sizes.vision
    gather = seconds_to_gather(2 * language, gpus)
    gather_vision = seconds_to_gather(2 * sizes.vision, gpus)
    reduce = seconds_to_gather(4 * sizes.trained, gpus)
    forward, backward = gather + gather_vision, gather + reduce
    shares = {forward: forward_share, backward: recomputed - forward_share}
    ends = seconds_to_gather(2 * sizes.unit, gpus) + seconds_to_gather(
        4 * sizes.unit * sizes.trained / (sizes.trained + sizes.frozen), gpus
    )
    late = sum(max(0.0, seconds - share * per_token * tokens) for seconds, share in shares.items())
    return Step(
        compute=recomputed * per_token * tokens,
        communication=forward + backward,
        exposed=late + ends,
        binding_tokens=max(seconds / (share * per_token) for seconds, share in shares.items()),
        memory=memory_of(case, sizes, gpus, tokens),
    )


def seconds_to_gather(size: float, gpus: int) -> float:
    """Seconds of an all-gather or reduce-scatter of tensors of `size` bytes in all."""
    nodes = -(-gpus // GPUS_PER_NODE)
    inside = size * (gpus - 1) / gpus / NVLINK
    between = size * (nodes - 1) / nodes / (GPUS_PER_NODE * PORT)
    return max(inside, between) / EFFICIENCY


def memory_of(case: Case, sizes: Sizes, gpus: int, tokens: int) -> dict[str, float]:
    """Peak bytes of a GPU: its shard, gathered weights and gradients, activations, logits, and the rest."""
    kept = CHECKPOINT_BYTES if case.checkpointing else ACTIVATION_BYTES
    one_block = ACTIVATION_BYTES * tokens * sizes.width * case.checkpointing
    return {
        "shard": (16 * sizes.trained + 2 * sizes.frozen) / gpus,
        "gathered": 2 * (2 * sizes.unit + sizes.root) + (0 if case.lora else 6 * max(sizes.unit, sizes.root)),
        "activations": kept * tokens * sizes.layers_times_width + one_block,
        "logits": 2 * 4 * CHUNK * sizes.vocabulary,
        "other": OTHER_GB * 1e9,
    }


def print_tables() -> None:
    """Print a row for each case and number of GPUs."""
    print(
        "| training | GPUs | compute s | communication s | exposed s | examples/s | binds below tokens | GB per GPU: "
        "shard + gathered + activations + logits + other |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        sizes = sizes_of(case)
        for gpus in case.gpus:
            print(_row(case, gpus, step_of(case, sizes, gpus)))


def _row(case: Case, gpus: int, step: Step) -> str:
    rate = gpus * TOKENS / LENGTH / (step.compute + step.exposed)
    total = sum(step.memory.values()) / 1e9
    parts = " + ".join(f"{value / 1e9:.1f}" for value in step.memory.values())
    fits = "" if total <= GPU_GB else f", more than {GPU_GB}"
    return (
        f"| {case.name} | {gpus} | {step.compute:.2f} | {step.communication:.2f} | {step.exposed:.3f} | {rate:,.0f} | "
        f"{step.binding_tokens:,.0f} | {total:.0f}{fits}: {parts} |"
    )


def _count(parameters: Iterator[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _write_config(folder: Path, shape: dict[str, Any]) -> None:
    """The configuration of a model of a shape, from the embedded one's."""
    config = json.loads(Path(asset_path("assets:vlm"), "config.json").read_text())
    layers = shape["num_hidden_layers"]
    config["text_config"] |= shape | {
        "layer_types": ["full_attention"] * layers,
        "max_window_layers": layers,
        "rope_parameters": {"mrope_section": [16, 24, 24], "rope_theta": 1e6, "rope_type": "default"},
    }
    config["vision_config"] |= VISION | {"out_hidden_size": shape["hidden_size"]}
    config |= {"tie_word_embeddings": shape["tie_word_embeddings"], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
