"""AdamW with its learning rate and weight decay, and the mean of the weights of several trainings.

Names and meanings of the settings are those of Hugging Face's `TrainingArguments`.
"""

import math
from typing import Any

import torch
from torch import nn

from vlrm_ray.config import Train

LORA_LR, SMALL_LR, LARGE_LR = 1e-4, 1e-3, 1e-5
"""Default peak learning rates: of adapters, and of all weights of a small and of a large model."""
SMALL_PARAMETERS = 1e8
"""Models with fewer parameters are small."""


def peak_lr(settings: Train, parameters: int, round_: int) -> float:
    """Peak learning rate of a round.

    Args:
        settings: `lr` (None takes the default for the size), `lr_decay`, `initial` and `lora.rank`.
        parameters: number of parameters of the model, trained or not.
        round_: number of the round; the first is 1.
    """
    full = SMALL_LR if parameters < SMALL_PARAMETERS else LARGE_LR
    first = settings.lr or (LORA_LR if settings.lora.rank else full)
    return first * settings.lr_decay ** (round_ - 1 if settings.initial == "newest" else 0)


def lr_factor(step: int, steps: int, settings: Train) -> float:
    """Factor on the peak learning rate.

    It rises linearly over the first `warmup_ratio` of the steps, and falls to `min_lr_ratio` as a cosine or linearly;
    `constant` keeps it at 1.

    Args:
        step: number of the step; the first is 0.
        steps: steps of the training.
        settings: `lr_scheduler`, `warmup_ratio` and `min_lr_ratio`.
    """
    warmup = max(1, int(steps * settings.warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    if settings.lr_scheduler == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    height = (1 + math.cos(math.pi * progress)) / 2 if settings.lr_scheduler == "cosine" else 1 - progress
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * height


def build_optimizer(model: nn.Module, lr: float, settings: Train, device: torch.device) -> torch.optim.AdamW:
    """AdamW over the trained parameters, in the groups of `parameter_groups`; fused on CUDA.

    Args:
        model: the model, after sharding. Parameters without `requires_grad` are left out.
        lr: peak learning rate.
        settings: `weight_decay`.
        device: device of the parameters.
    """
    decayed, others = parameter_groups(model)
    groups = [
        {"params": list(decayed.values()), "weight_decay": settings.weight_decay},
        {"params": list(others.values()), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=lr, fused=True if device.type == "cuda" else None
    )


def parameter_groups(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The trained parameters by name: those with weight decay, and those without.

    Weight decay applies to parameters of two or more dimensions, except those of normalization layers: not to biases
    and not to the weights of norms, whose natural value is not 0. The order is that of the model.
    """
    norms = {
        id(parameter)
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    decayed: dict[str, nn.Parameter] = {}
    others: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = decayed if parameter.ndim >= 2 and id(parameter) not in norms else others
            group[name] = parameter
    return decayed, others


def restart(optimizer: torch.optim.Optimizer) -> None:
    """Set the moments and steps of AdamW to 0, in place, as before its first step."""
    for state in optimizer.state.values():
        for tensor in state.values():
            tensor.zero_()


class WeightAverage:
    """Mean of the trained parameters of several trainings from the same start, in float32 and sharded like them.

    The trainings differ in the order of the pairs, and the mean is published: WARM (arXiv 2401.12187), weight averaged reward
    models. Averages of weights are good models if the trainings have a pre-trained start in common.
    """

    def __init__(self, model: nn.Module) -> None:
        """Remember the present weights as the start; needs 8 bytes for each trained parameter of the shard.

        Args:
            model: the model, after sharding and loading.
        """
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.start = {name: p.detach().to(torch.float32, copy=True) for name, p in self.parameters.items()}
        self.means = {name: torch.zeros_like(start) for name, start in self.start.items()}
        self.fits = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def end_fit(self, *, is_last: bool) -> None:
        """Add the weights at the end of a training to the mean; the model holds the start again, in the end the mean."""
        self.fits += 1
        for name, parameter in self.parameters.items():
            mean = self.means[name]
            mean.add_((parameter.detach() - mean) / int(self.fits))
            parameter.copy_(mean if is_last else self.start[name])

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: the tensors themselves, so that loading in place restores them. The start is not in it."""
        return {"means": dict(self.means), "fits": self.fits}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy the state of a checkpoint, sharded alike.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        means = state["means"]
        if means.keys() != self.means.keys():
            names = sorted(means.keys() ^ self.means.keys())
            raise ValueError(f"the averaged weights belong to other parameters: {names[0]} and {len(names) - 1} more")
        for name, mean in self.means.items():
            mean.copy_(means[name])
        self.fits.copy_(state["fits"])
