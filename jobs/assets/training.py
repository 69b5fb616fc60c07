"""What the recipes of the language models share: optimizers, learning rate, going on after an interruption."""

import math
from pathlib import Path

import torch


def optimizers(model: torch.nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name
        (matrices if inner else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(progress: float, steps: int) -> float:
    """Warm-up over 60 steps, then cosine to a fiftieth, within a phase."""
    warm = min(1.0, (progress * steps + 1) / 60)
    return warm * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))


def save(state: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer], step: int, spent: float) -> None:
    """Keep everything that going on needs; the file is whole or the old one."""
    content = {"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step, "spent": spent}
    torch.save(content, state.with_suffix(".tmp"))
    state.with_suffix(".tmp").replace(state)


def restore(state: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """Step and CPU seconds reached so far; 0 and 0 without a state."""
    if not state.exists():
        return 0, 0.0
    content = torch.load(state, weights_only=True)
    model.load_state_dict(content["model"])
    for opt, saved in zip(opts, content["opts"], strict=True):
        opt.load_state_dict(saved)
    return int(content["step"]), float(content["spent"])
