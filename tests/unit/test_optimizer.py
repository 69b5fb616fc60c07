"""The trainer's optimizer: learning rates, weight decay, and the mean of the weights, also on sharded parameters."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from vlrm_ray.config import Lora, Train
from vlrm_ray.reward.training.optimizer import (
    WeightAverage,
    build_optimizer,
    lr_factor,
    parameter_groups,
    peak_lr,
    restart,
)

CPU = torch.device("cpu")


class Block(nn.Module):
    """A layer, a norm with a weight of two dimensions, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.LayerNorm((2, 2))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_the_peak_learning_rate_depends_on_adapters_and_size() -> None:
    assert peak_lr(Train(), 2_000_000, 1) == 1e-3
    assert peak_lr(Train(), 7_000_000_000, 1) == 1e-5
    assert peak_lr(Train(lora=Lora(rank=16)), 7_000_000_000, 1) == 1e-4
    assert peak_lr(Train(lr=3e-4), 7_000_000_000, 1) == 3e-4
    assert peak_lr(Train(lr_decay=0.5), 2_000_000, 3) == pytest.approx(2.5e-4)


def test_the_default_schedule_is_a_cosine_to_a_tenth_after_a_warm_up_of_a_tenth() -> None:
    factors = [lr_factor(step, 100, Train()) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.55)
    assert factors[99] == pytest.approx(0.1, abs=1e-3)
    for steps in (1, 2, 7, 34, 1000):
        for step in range(steps):
            warmup = max(1, steps // 10)
            cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
            expected = (step + 1) / warmup if step < warmup else cosine
            assert lr_factor(step, steps, Train()) == pytest.approx(expected, abs=1e-12)


def test_other_schedules() -> None:
    linear = Train(lr_scheduler="linear", warmup_ratio=0, min_lr_ratio=0)
    assert [lr_factor(step, 5, linear) for step in range(5)] == pytest.approx([1, 1, 0.75, 0.5, 0.25])
    constant = Train(lr_scheduler="constant", warmup_ratio=0.5)
    assert [lr_factor(step, 4, constant) for step in range(4)] == [0.5, 1, 1, 1]


def test_weight_decay_spares_biases_norms_and_frozen_parameters() -> None:
    model = Block()
    decayed, others = parameter_groups(model)
    assert list(decayed) == ["layer.weight"]
    assert list(others) == ["layer.bias", "norm.weight", "norm.bias"]
    optimizer = build_optimizer(model, 0.5, Train(weight_decay=0.1), CPU)
    assert [(len(g["params"]), g["weight_decay"], g["lr"]) for g in optimizer.param_groups] == [
        (1, 0.1, 0.5),
        (3, 0.0, 0.5),
    ]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model.layer.weight.grad = torch.zeros(4, 4)
    model.layer.bias.grad = torch.zeros(4)
    optimizer.step()
    assert torch.allclose(model.layer.weight, before[0] * 0.95)
    assert torch.equal(model.layer.bias, before[1])


def test_only_groups_with_parameters_are_made() -> None:
    assert len(build_optimizer(nn.Linear(2, 2, bias=False), 1.0, Train(), CPU).param_groups) == 1


def fill(model: nn.Module, value: float) -> None:
    """Set all trained parameters to a value, as a training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(value)


def test_each_fit_begins_at_the_start_and_the_model_ends_with_the_mean_of_all() -> None:
    model = Block()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    average = WeightAverage(model)
    assert list(average.means) == ["layer.weight", "layer.bias", "norm.weight", "norm.bias"]
    for value in (2.0, 3.0):
        fill(model, value)
        average.end_fit(is_last=False)
        assert all(torch.equal(parameter, start[name]) for name, parameter in model.named_parameters())
    fill(model, 7.0)
    average.end_fit(is_last=True)
    for name, parameter in model.named_parameters():
        expected = torch.full_like(parameter, 4.0) if name in average.means else start[name]
        assert torch.allclose(parameter, expected)


def test_the_optimizer_starts_again_as_a_new_one() -> None:
    twice, fresh = nn.Linear(2, 2), nn.Linear(2, 2)
    used = build_optimizer(twice, 0.1, Train(), CPU)
    for _ in range(3):
        twice(torch.ones(1, 2)).sum().backward()
        used.step()
        used.zero_grad()
    restart(used)
    fresh.load_state_dict(twice.state_dict())
    for model, optimizer in ((twice, used), (fresh, build_optimizer(fresh, 0.1, Train(), CPU))):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(twice.parameters(), fresh.parameters(), strict=True))


def test_the_mean_of_other_parameters_is_refused() -> None:
    average = WeightAverage(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="other parameters: bias"):
        average.load_state_dict({"means": {"weight": torch.zeros(1, 1)}, "fits": torch.zeros(())})


def trained(rank: int, world: int, folder: str, resumed: bool) -> None:
    """Train a sharded layer for three fits of two steps on one of `world` ranks, whose mean goes on from its state after four of them if `resumed`."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store-{world}-{resumed}", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    optimizer = build_optimizer(model, 0.1, Train(), CPU)
    average = WeightAverage(model)
    for step in range(6):
        inputs = torch.linspace(-1, 1 + step, 20).reshape(4, 5)
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 2 == 1:
            average.end_fit(is_last=step == 5)
            restart(optimizer)
        if resumed and step == 3:
            state = average.state_dict()
            state = {"means": {n: m.clone() for n, m in state["means"].items()}, "fits": state["fits"].clone()}
            average = WeightAverage(model)
            average.load_state_dict(state)
    mean = {name: parameter.full_tensor().clone() for name, parameter in model.named_parameters()}
    local = sum(tensor.to_local().numel() for tensor in average.means.values())
    if rank == 0:
        torch.save({"mean": mean, "local": local}, f"{folder}/{world}-{resumed}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_the_mean_is_sharded_and_the_same_on_one_and_two_ranks_and_after_resuming(tmp_path: Path) -> None:
    cases = [(1, False), (2, False), (2, True)]
    for world, resumed in cases:
        mp.start_processes(trained, (world, str(tmp_path), resumed), world, start_method="fork")
    results = [torch.load(tmp_path / f"{world}-{resumed}.pt") for world, resumed in cases]
    assert results[1]["local"] < 0.75 * results[0]["local"]
    for other in results[1:]:
        for name, mean in results[0]["mean"].items():
            assert torch.allclose(mean, other["mean"][name], atol=1e-6)
