"""Floating-point operations of a training step, and the peak of a device: what model FLOPs utilization (MFU) is made of.

Counted is what the model needs, not what the hardware does: the recomputation of activation checkpointing is left out
(PaLM, arXiv 2204.02311, appendix B). An addition and a multiplication are two operations.

* A weight of a matrix product takes 2 FLOPs per token forward, 2 for the gradient of the input and 2 for its own:
  6 N if trained, 4 N if frozen while gradients pass through it (LoRA), 2 N if frozen without gradients (vision tower).
* N has no input embedding, which is looked up. The output layer counts at learned positions only, where logits are
  computed.
* Attention takes 12 L d T per token and T tokens attended to (PaLM, same place), 4 L d T without gradients. T is
  the tokens that are really attended to, so a causal mask halves it, which the formula of PaLM does not.

Mixture-of-experts models would be overestimated: all experts are counted.
"""

from dataclasses import dataclass
from typing import Any

PEAKS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "A40": 150e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "MI300X": 1307e12,
}
"""Peak bfloat16 FLOPs per second without sparsity, from the vendors' data sheets, by a part of the device's name.

The first that fits counts: longer names come before those that they contain.
"""
EMBEDDING, OUTPUT, MERGER = "embed_tokens", "lm_head", "merger."
"""Parts of the names of parameters: of the input embedding, the output layer, and the layers behind merged patches."""
VISION = ("visual.", "vision_tower.", "vision_model.")
"""Parts of the names of the vision tower's parameters."""


def peak_flops(device_name: str) -> float | None:
    """Peak bfloat16 FLOPs per second of a device, such as "NVIDIA H100 80GB HBM3"; None if it is not stated."""
    words = device_name.replace("-", " ").upper().split()
    for name, peak in PEAKS.items():
        wanted = name.upper().split()
        if all(word in words for word in wanted):
            return peak
    return None


@dataclass(frozen=True)
class ModelFlops:
    """FLOPs of training a vision-language model, forward and backward.

    Attributes:
        token: per token of the language model, without attention and the output layer.
        output: per learned token, of the output layer.
        pair: per pair of a token and a token it attends to, of all layers of the language model.
        patch: per patch of an image, without attention.
        patch_pair: per pair of patches that attend to each other, of all layers of the vision tower.
    """

    token: float
    output: float
    pair: float
    patch: float
    patch_pair: float

    def step(self, tokens: int, learned: int, pairs: float, patches: int = 0, patch_pairs: float = 0) -> float:
        """FLOPs of a step, or of any other work.

        Args:
            tokens: tokens that go through the language model; a prefix that is computed once counts once.
            learned: tokens that are learned.
            pairs: pairs of a token and one it attends to: about T²/2 for a sequence of T tokens.
            patches: patches that go through the vision tower.
            patch_pairs: pairs of patches that attend to each other: about P² for an image of P patches.
        """
        language = self.token * tokens + self.output * learned + self.pair * pairs
        return language + self.patch * patches + self.patch_pair * patch_pairs


def model_flops(model: Any) -> ModelFlops:
    """FLOPs of training a model, from its parameters and from which of them are trained.

    Args:
        model: a transformers model, on any device, sharded or not, with `requires_grad` set and adapters added.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.ndim >= 2 and EMBEDDING not in name]
    vision_trained = any(p.requires_grad for name, p in named if _in_vision(name))
    frozen_vision = 4 if vision_trained else 2
    language = vision = merger = 0.0
    for name, parameter in named:
        if _in_vision(name):
            flops = (6 if parameter.requires_grad else frozen_vision) * parameter.numel()
            vision, merger = (vision, merger + flops) if MERGER in name else (vision + flops, merger)
        elif OUTPUT not in name:
            language += (6 if parameter.requires_grad else 4) * parameter.numel()
    text, images = model.config.get_text_config(), getattr(model.config, "vision_config", None)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    output = model.get_output_embeddings().weight
    return ModelFlops(
        token=language,
        output=(6 if output.requires_grad else 4) * output.numel(),
        pair=12 * text.num_hidden_layers * text.num_attention_heads * head,
        patch=vision + merger / getattr(images, "spatial_merge_size", 1) ** 2,
        patch_pair=(12 if vision_trained else 4) * _layers_times_width(images) if images else 0.0,
    )


def _in_vision(name: str) -> bool:
    return any(part in name for part in VISION)


def _layers_times_width(vision_config: Any) -> float:
    """L d of a vision tower; the fields' names differ between models."""
    layers = getattr(vision_config, "depth", None) or vision_config.num_hidden_layers
    width = getattr(vision_config, "embed_dim", None) or vision_config.hidden_size
    return float(layers * width)
