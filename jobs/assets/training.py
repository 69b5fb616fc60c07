"""Shared by the language models' recipes: optimizers, learning-rate schedule, saving and restoring the state."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import transformers as hf


def optimizers(model: torch.nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices except embeddings, AdamW for all other parameters."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_matrix else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(progress: float, steps: int) -> float:
    """Factor of the learning rate: linear warm-up over 60 steps, cosine decay from 1 to 0.02.

    Args:
        progress: completed share of the steps, 0 to 1.
        steps: number of steps.
    """
    warm_up = min(1.0, (progress * steps + 1) / 60)
    return warm_up * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))


def learning_rates(opts: list[torch.optim.Optimizer]) -> list[float]:
    """Peak learning rate of each parameter group."""
    return [group["lr"] for opt in opts for group in opt.param_groups]


def update(model: torch.nn.Module, opts: list[torch.optim.Optimizer], rates: list[float], factor: float) -> None:
    """Clip the gradient to the norm 1, and update the weights by it.

    Args:
        model: the model.
        opts: its optimizers.
        rates: their `learning_rates`.
        factor: factor of the learning rates in this step.
    """
    for group, rate in zip((g for opt in opts for g in opt.param_groups), rates, strict=True):
        group["lr"] = rate * factor
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for opt in opts:
        opt.step()
        opt.zero_grad(set_to_none=True)


def publish(
    model: "hf.PreTrainedModel", processor: "hf.ProcessorMixin | hf.PreTrainedTokenizerFast", out: Path
) -> None:
    """Write a model and its processor as a folder that transformers and vLLM can load."""
    model.save_pretrained(out)
    processor.save_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def save(state: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer], step: int, spent: float) -> None:
    """Save the training state atomically.

    Args:
        state: file of the state.
        model: the model.
        opts: its optimizers.
        step: number of completed steps.
        spent: CPU seconds so far.
    """
    content = {"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step, "spent": spent}
    torch.save(content, state.with_suffix(".tmp"))
    state.with_suffix(".tmp").replace(state)


def restore(state: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """Load the training state into the model and the optimizers, if the file exists.

    Returns:
        Completed steps and CPU seconds so far; (0, 0.0) without a file.
    """
    if not state.exists():
        return 0, 0.0
    content = torch.load(state, weights_only=True)
    model.load_state_dict(content["model"])
    for opt, saved in zip(opts, content["opts"], strict=True):
        opt.load_state_dict(saved)
    return int(content["step"]), float(content["spent"])
