"""Writes the weights of a model, sharded or not, as safetensors files, without holding the whole model."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from vlrm_ray.ids import seed_of
from vlrm_ray.reward.training.weight_files import INDEX, WEIGHTS

LEAST_BYTES, MOST_BYTES = 512 << 20, 4 << 30
"""Bounds of the size of a weight file; between them it is such that all ranks write."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Published:
    """A tensor to write.

    Attributes:
        key: its name in the files, as transformers' `save_pretrained` gives it.
        tensor: parameter or buffer, perhaps sharded.
        dtype: number format in the files.
        layer: peft's layer around the parameter, whose adapter is merged; None without.
        seed: seed of the rounding, if the tensor was trained in more digits than are written; None rounds to nearest.
    """

    key: str
    tensor: torch.Tensor
    dtype: torch.dtype
    layer: Any
    seed: int | None = None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.tensor.numel() * self.dtype.itemsize

    def value(self) -> torch.Tensor:
        """The whole tensor on the device, merged and converted; collective if it is sharded."""
        if self.seed is not None:
            return rounded_at_random(_whole(self.tensor.detach()), self.seed)
        if self.layer is None:
            return _whole(self.tensor.detach().to(self.dtype))
        merged = _whole(self.tensor.detach()).float()
        for adapter in self.layer.active_adapters:
            low, high = self.layer.lora_A[adapter].weight.detach(), self.layer.lora_B[adapter].weight.detach()
            merged += (_whole(high) @ _whole(low)) * self.layer.scaling[adapter]
        return merged.to(self.dtype)


def write_weights(
    model: Any, folder: Path, dtype: torch.dtype, shard_bytes: int | None, rank: int, world: int, version: int = 0
) -> None:
    """Write a model's weights. Collective; file i is written by rank i modulo `world`, the index by rank 0.

    While a rank writes a file, it goes on gathering tensors for the others. It begins the next one of its own after that.

    Weights that were trained in float32 and are written in bfloat16 are rounded at random (`rounded_at_random`).

    Args:
        model: transformers model, possibly with peft's adapters, which are merged.
        folder: where this rank writes.
        dtype: number format of the floating-point tensors in the files.
        shard_bytes: most bytes of a file; a larger tensor has a file of its own. None for a rank's share of the weights,
            within `LEAST_BYTES` and `MOST_BYTES`.
        rank: number of this rank.
        world: number of ranks.
        version: number of the version; each is rounded in its own way.
    """
    tensors = _published(model, dtype, version)
    total = sum(tensor.size for tensor in tensors)
    groups = _grouped(tensors, shard_bytes or min(max(-(-total // world), LEAST_BYTES), MOST_BYTES))
    width = len(groups)
    names = [WEIGHTS.replace(".", f"-{i + 1:05d}-of-{width:05d}.") for i in range(width)] if width > 1 else [WEIGHTS]
    pending: Future[None] | None = None
    with ThreadPoolExecutor(1) as writer:
        for index, (name, group) in enumerate(zip(names, groups, strict=True)):
            own, content = index % world == rank, {}
            if own and pending is not None:
                pending.result()  # or two files would be in memory
            for published in group:
                value = published.value()
                if own:
                    content[published.key] = value.cpu().contiguous()
                del value  # or it would still be there when the next one is gathered
            if own:
                pending = writer.submit(save_file, content, folder / name, {"format": "pt"})
        if pending is not None:
            pending.result()
    if rank == 0 and width > 1:
        metadata = {
            "total_parameters": sum(p.tensor.numel() for p in tensors),
            "total_size": total,
        }
        weight_map = {p.key: name for name, group in zip(names, groups, strict=True) for p in group}
        content_of_index = {"metadata": metadata, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(content_of_index, indent=2, sort_keys=True) + "\n")


def write_adapter(model: Any, folder: Path, initial_model: str, *, write: bool) -> None:
    """Write a model's adapters as peft does, with its configuration; nothing if it has none. Collective.

    Args:
        model: transformers model, possibly with peft's adapters.
        folder: where to write; created if missing.
        initial_model: what its configuration names as base model; empty for the folder it was loaded from.
        write: whether this rank writes.
    """
    if isinstance(model, PreTrainedModel):
        return
    name = model.active_adapter
    content = {}
    for key, parameter in model.named_parameters():
        if f".{name}." in key and ".lora_" in key:
            whole = _whole(parameter.detach())
            if write:
                content[key.replace(f".{name}.", ".")] = whole.cpu().contiguous()
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(content, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config = deepcopy(model.peft_config[name])
        config.base_model_name_or_path = initial_model or model.config.name_or_path
        config.inference_mode = True
        config.save_pretrained(folder)


def rounded_at_random(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """A float32 tensor in bfloat16, each number rounded up or down such that its mean over all seeds is the number itself.

    The next round trains on from what is published. The changes of a short training are smaller than half of bfloat16's
    steps for many weights, and rounding to nearest would undo them in each round. Numbers that bfloat16 has stay as they are.
    """
    generator = torch.Generator(tensor.device).manual_seed(seed)
    bits = torch.randint(0, 1 << 16, tensor.shape, generator=generator, device=tensor.device, dtype=torch.int32)
    bits += tensor.contiguous().view(torch.int32)
    bits &= -(1 << 16)  # bfloat16 is the upper half of float32
    return torch.where(tensor.isfinite(), bits.view(torch.float32).bfloat16(), tensor.bfloat16())


def _published(model: Any, dtype: torch.dtype, version: int) -> list[Published]:
    """The tensors to write, tied ones once, in the order of the model."""
    base = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    tensors: dict[str, torch.Tensor] = {}
    layers = {}
    for name, tensor in (*base.named_parameters(), *_buffers(base)):
        if ".lora_" not in name:
            plain = name.replace(".base_layer.", ".")
            tensors[plain] = tensor
            layer = (
                base.get_submodule(name.rpartition(".base_layer.")[0]) if name.endswith("base_layer.weight") else None
            )
            layers[plain] = layer
    # names are reverted by transformers on stand-ins without memory, which tell which tensor got which name
    stand_ins = {name: torch.empty(tensor.shape, device="meta") for name, tensor in tensors.items()}
    name_of = {id(stand_in): name for name, stand_in in stand_ins.items()}
    keys = {name_of[id(stand_in)]: key for key, stand_in in revert_weight_conversion(base, stand_ins).items()}
    found = []
    for name, tensor in tensors.items():
        is_trained = tensor.requires_grad and tensor.dtype == torch.float32
        seed = seed_of("rounding", version, keys[name]) if is_trained and dtype == torch.bfloat16 else None
        found.append(
            Published(keys[name], tensor, dtype if tensor.is_floating_point() else tensor.dtype, layers[name], seed)
        )
    return found


def _buffers(base: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers that belong to the state of a model."""
    for prefix, module in base.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}".lstrip("."), buffer


def _grouped(tensors: list[Published], most: int) -> list[list[Published]]:
    """Split tensors into files."""
    groups: list[list[Published]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + tensor.size > most:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.size
    return groups


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
