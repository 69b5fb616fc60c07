"""The model of a train worker: built without weights, sharded by FSDP2, then loaded shard by shard.

No process holds the whole model at any time:

1. `meta_model` builds the modules on the meta device, with LoRA adapters and frozen parts.
2. `shard` makes each block a unit of FSDP2, still without memory.
3. `load_weights` reads each parameter's own rows from the safetensors files.
"""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Train
from vlrm_ray.errors import UserError
from vlrm_ray.ids import seed_of
from vlrm_ray.reward.training.weight_files import WeightFiles

torchvision_shim.install()

from accelerate import init_empty_weights  # type: ignore[import-untyped]  # noqa: E402
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, PreTrainedModel  # noqa: E402
from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: E402
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key  # noqa: E402

FREEZE_VISION_FROM = 1_000_000_000
"""Models with at least so many parameters are trained without their vision tower if `train.freeze` is unset."""
HALF = (torch.bfloat16, torch.float16)


def meta_model(folder: str, settings: Train, device: torch.device) -> Any:
    """The model of a folder in training mode, without memory for its parameters; buffers are real.

    Parts named by `train.freeze` do not require gradients. With `train.lora` there are adapters, and only they do; an
    explicit `train.freeze` also keeps adapters out of the parts that it names. Trained parameters are float32. Frozen
    ones have a 16-bit type on GPUs, where computations use bfloat16, and are float32 on CPUs.

    Args:
        folder: model folder, or a name on the Hugging Face hub.
        settings: the configuration's section `train`.
        device: device that will hold the parameters.

    Returns:
        A `PreTrainedModel`, or a `PeftModel` around it.

    Raises:
        UserError: `train.lora.targets` matches no module, or nothing is left to train.
    """
    config = AutoConfig.from_pretrained(folder)
    stored_type = config.dtype
    with init_empty_weights(include_buffers=False):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.tie_weights()  # the context above has replaced tied parameters one by one
    with suppress(OSError):  # not every model has one
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.config.name_or_path = folder
    # transformers keeps the renamings of a loaded checkpoint here, and undoes them when it saves
    model._weight_conversions = get_model_conversion_mapping(model)
    _freeze(model, settings)
    wrapped = _with_adapters(model, settings, folder) if settings.lora.rank else model
    if not any(parameter.requires_grad for parameter in wrapped.parameters()):
        raise UserError(f"train.freeze={list(settings.freeze or ())} leaves nothing to train; name fewer parts")
    if device.type == "cuda":
        frozen_type = stored_type if stored_type in HALF else torch.bfloat16
        for parameter in wrapped.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(frozen_type)
    return wrapped.train()


def base_model(model: Any) -> PreTrainedModel:
    """The transformers model inside a `PeftModel`; any other model itself. Adapters stay in its layers."""
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def parameter_count(model: Any) -> int:
    """Number of parameters without adapters; tied ones count once."""
    sizes = [p.numel() for name, p in base_model(model).named_parameters() if ".lora_" not in name]
    return sum(sizes)


def _freeze(model: PreTrainedModel, settings: Train) -> None:
    """Turn off gradients of the frozen parts: everything, with adapters."""
    frozen = settings.freeze
    if frozen is None and parameter_count(model) >= FREEZE_VISION_FROM:
        frozen = ("vision",)
    tower = vision_tower(model)
    vision = {id(parameter) for parameter in tower.parameters()} if tower else set()
    for parameter in model.parameters():
        part = "vision" if id(parameter) in vision else "language"
        parameter.requires_grad_(part not in (frozen or ()) and not settings.lora.rank)


def vision_tower(model: PreTrainedModel) -> nn.Module | None:
    """The image encoder, if it is a part of its own; of Qwen's models with the projection to the language model."""
    tower = model.get_encoder(modality="image")
    return tower if isinstance(tower, nn.Module) and tower not in (model, model.base_model) else None


def _with_adapters(model: PreTrainedModel, settings: Train, folder: str) -> Any:
    """The model with LoRA adapters (peft), without memory for them."""
    from peft import LoraConfig, get_peft_model

    lora = settings.lora
    targets = [name for name, _ in _trainable(model, settings) if re.fullmatch(lora.targets, name)]
    if not targets:
        example = next((name for name, module in model.named_modules() if isinstance(module, nn.Linear)), "none")
        raise UserError(
            f"train.lora.targets={lora.targets} matches no module of {folder} that is trained; give a regular expression "
            f"for whole names such as {example}"
        )
    for name in targets:
        if not isinstance(model.get_submodule(name), nn.Linear):
            raise UserError(
                f"train.lora.targets={lora.targets} matches {name}, which is not a linear layer; narrow the expression"
            )
    matched = targets if settings.freeze else lora.targets
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=matched)
    return get_peft_model(model, config, low_cpu_mem_usage=True)


def _trainable(model: PreTrainedModel, settings: Train) -> Iterator[tuple[str, nn.Module]]:
    """Modules by name, without those in parts that `train.freeze` names explicitly."""
    tower = vision_tower(model)
    inside = {id(module) for module in tower.modules()} if tower else set()
    for name, module in model.named_modules():
        if ("vision" if id(module) in inside else "language") not in (settings.freeze or ()):
            yield name, module


def shard(module: nn.Module, device: torch.device, world: int) -> FSDPModule:
    """Shard a module whose child `model` comes from `meta_model`, over all ranks, by FSDP2.

    Units are the model's blocks (decoder layers, vision blocks), the rest of the vision tower, the input embedding if
    the output layer does not share it, and the module with all that is left: its own forward may use the output layer's
    weights directly.

    Args:
        module: what computes the losses.
        device: device of this rank.
        world: number of ranks.

    Returns:
        The same module. It has a new method `call_model(**inputs)`, a forward pass of the child `model`.
    """
    mesh = init_device_mesh(device.type, (world,))
    policy = MixedPrecisionPolicy()
    if device.type == "cuda":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    assert isinstance(module.model, nn.Module)
    for unit in (*block_modules(module.model), *_further_units(base_model(module.model)), module):
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    assert isinstance(module, FSDPModule)
    setattr(module, "call_model", MethodType(_call_model, module))  # noqa: B010 - a method, not a submodule
    register_fsdp_forward_method(module, "call_model")
    return module


def _call_model(self: nn.Module, **inputs: Any) -> Any:
    """Forward pass of the model alone, for all ranks together."""
    assert isinstance(self.model, nn.Module)
    return self.model(**inputs)


def block_modules(model: Any) -> list[nn.Module]:
    """The blocks of a model, by the classes that transformers never splits over devices; inner ones first."""
    base = base_model(model)
    names = {name for m in base.modules() if isinstance(m, PreTrainedModel) for name in m._no_split_modules or ()}
    return [module for module in reversed(list(base.modules())) if type(module).__name__ in names]


def _further_units(model: PreTrainedModel) -> list[nn.Module]:
    units = [vision_tower(model)]
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is None or embedding.weight is not output.weight:
        units.append(embedding)
    return [unit for unit in units if unit is not None]


def largest_block(model: Any) -> int:
    """Parameters of the largest unit that `shard` makes, the root included, for estimates of memory."""
    base = base_model(model)
    units = [*block_modules(model), *_further_units(base), base]
    seen: set[int] = set()
    largest = 0
    for unit in units:
        own: dict[int, int] = {id(p): p.numel() for p in unit.parameters() if id(p) not in seen}
        seen |= own.keys()
        largest = max(largest, sum(own.values()))
    return largest


@dataclass
class Slot:
    """One parameter, and each module that holds it: more than one if it is tied.

    Attributes:
        parameter: the parameter, perhaps on the meta device.
        names: its names in the transformers model, without peft's additions.
        owners: modules that hold it, and their attribute's name.
    """

    parameter: nn.Parameter
    names: list[str] = field(default_factory=list)
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)

    def rows(self) -> slice:
        """The rows of this rank: FSDP2 splits dimension 0 as `torch.chunk` does."""
        if not isinstance(self.parameter, DTensor):
            return slice(None)
        count, mesh = self.parameter.shape[0], self.parameter.device_mesh
        size = -(-count // mesh.size())
        return slice(min(mesh.get_local_rank() * size, count), min((mesh.get_local_rank() + 1) * size, count))

    def assign(self, value: torch.Tensor) -> None:
        """Put this rank's rows in place of the parameter."""
        old = self.parameter
        if isinstance(old, DTensor):
            value = DTensor.from_local(
                value, old.device_mesh, old.placements, run_check=False, shape=old.shape, stride=old.stride()
            )
        self.parameter = nn.Parameter(value, requires_grad=old.requires_grad)
        for module, name in self.owners:
            setattr(module, name, self.parameter)


def slots(model: Any) -> list[Slot]:
    """The parameters of a model, each once, adapters included."""
    base = base_model(model)
    found: dict[int, Slot] = {}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        slot = found.setdefault(id(parameter), Slot(parameter))
        owner, _, attribute = name.rpartition(".")
        slot.names.append(name.replace(".base_layer.", "."))
        slot.owners.append((base.get_submodule(owner), attribute))
    return list(found.values())


def load_weights(model: Any, folder: str, device: torch.device, seed: int) -> None:
    """Give each parameter its values: this rank's rows from a folder's safetensors files, adapters their start.

    Args:
        model: result of `meta_model`, sharded or not; its parameters are replaced.
        folder: the folder that it was made from.
        device: device of the parameters.
        seed: seed of the adapters. They do not depend on the number of ranks.

    Raises:
        UserError: there are only pickled weights, a file or a tensor is missing or has another shape, or the model's
            weights need more than other names.
    """
    base, files = base_model(model), WeightFiles(folder)
    every = slots(model)
    adapters = [slot for slot in every if ".lora_" in slot.names[0]]
    weights = [slot for slot in every if ".lora_" not in slot.names[0]]
    sources = _sources(base, files, [name for slot in weights for name in slot.names])
    wanted = {}
    for slot in weights:
        key = next((sources[name] for name in slot.names if name in sources), None)
        if key is None:
            raise UserError(
                f"{files.folder} lacks the tensor {slot.names[0]} of its {type(base).__name__}; download it again"
            )
        wanted[key] = slot
    for key, tensor in files.read({key: (tuple(slot.parameter.shape), slot.rows()) for key, slot in wanted.items()}):
        wanted[key].assign(tensor.to(device=device, dtype=wanted[key].parameter.dtype, copy=True))
    for slot in adapters:
        slot.assign(_initial_adapter(slot, seed).to(device))
    _load_buffers(base, files, sources, device)


def _sources(base: PreTrainedModel, files: WeightFiles, names: list[str]) -> dict[str, str]:
    """For each parameter and buffer the key of its tensor in the files, by transformers' own renaming."""
    conversions = base._weight_conversions or []
    renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in conversions if isinstance(entry, WeightConverter)]
    known: dict[str, Any] = dict.fromkeys([*names, *(name for name, _ in base.named_buffers())], True)
    sources = {}
    for key in files:
        name, pattern = rename_source_key(key, renamings, converters, base.base_model_prefix, known)
        if name not in known and key in known:
            name, pattern = rename_source_key(key, [], [], base.base_model_prefix, known)
        if pattern is not None:
            raise UserError(
                f"the tensor {key} of {files.folder} has to be split or joined to give {name} of "
                f"{type(base).__name__}, which is not supported; train another model, or save this one with "
                "transformers' save_pretrained(..., save_original_format=False)"
            )
        if name in known:
            sources[name] = key
    base._weight_conversions = [entry for entry in conversions if entry.was_used()]
    return sources


def _initial_adapter(slot: Slot, seed: int) -> torch.Tensor:
    """This rank's rows of a new adapter: A uniform as in peft, from a generator of its own, and B zero."""
    shape = slot.parameter.shape
    if ".lora_B." in slot.names[0]:
        return torch.zeros(shape)[slot.rows()].clone()
    generator = torch.Generator().manual_seed(seed_of("lora", seed, slot.names[0]))
    whole = torch.empty(shape)
    nn.init.kaiming_uniform_(whole, a=math.sqrt(5), generator=generator)
    return whole[slot.rows()].clone()


def _load_buffers(base: PreTrainedModel, files: WeightFiles, sources: dict[str, str], device: torch.device) -> None:
    """Move buffers to the device, and fill those that the files have."""
    for module in base.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    buffers = {sources[name]: buffer for name, buffer in base.named_buffers() if name in sources}
    for key, tensor in files.read({key: (tuple(buffer.shape), slice(None)) for key, buffer in buffers.items()}):
        buffers[key].copy_(tensor)
