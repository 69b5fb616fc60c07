"""The computed step times and memory of large trainings agree with what was measured on one GPU (docs/gpus.md)."""

from functools import cache

import pytest

from jobs.benches.train_paper import LENGTH, TOKENS, Case, Sizes, seconds_to_gather, sizes_of, step_of

LORA, FULL, CHECKPOINTED = Case("7B", 64, 0.43), Case("3B", 0, 0.38), Case("3B", 0, 0.38, checkpointing=True)


@cache
def sizes(case: Case) -> Sizes:
    return sizes_of(case)


def test_sizes_are_those_of_the_measured_models() -> None:
    assert (sizes(LORA).trained + sizes(LORA).frozen) / 1e9 == pytest.approx(8.29 + 0.16, abs=0.02)  # with adapters
    assert (sizes(FULL).trained + sizes(FULL).frozen) / 1e9 == pytest.approx(3.75, abs=0.01)


@pytest.mark.parametrize(("case", "gb"), [(LORA, 59.0), (FULL, 81.0), (CHECKPOINTED, 57.4)])
def test_memory_is_within_five_percent_of_the_measured_peak(case: Case, gb: float) -> None:
    assert sum(step_of(case, sizes(case), 1).memory.values()) / 1e9 == pytest.approx(gb, rel=0.05)


@pytest.mark.parametrize(("case", "rate"), [(LORA, 17.4), (FULL, 24.1)])
def test_the_rate_of_one_gpu_is_within_five_percent_of_the_measured_one(case: Case, rate: float) -> None:
    step = step_of(case, sizes(case), 1)
    assert step.communication == 0
    assert TOKENS / LENGTH / step.compute == pytest.approx(rate, rel=0.05)


def test_gathering_is_bound_by_the_slower_of_nvlink_and_network() -> None:
    assert seconds_to_gather(1e9, 8) == pytest.approx(1e9 * 7 / 8 / 450e9 / 0.8)
    assert seconds_to_gather(1e9, 64) == pytest.approx(1e9 * 63 / 64 / 450e9 / 0.8, rel=0.15)
    assert seconds_to_gather(1e9, 64) == pytest.approx(1e9 * 7 / 8 / 400e9 / 0.8)


def test_communication_is_hidden_above_the_binding_number_of_tokens_only() -> None:
    binding = step_of(FULL, sizes(FULL), 64).binding_tokens
    above = step_of(FULL, sizes(FULL), 64, int(binding * 1.1))
    below = step_of(FULL, sizes(FULL), 64, int(binding * 0.5))
    assert below.exposed > 5 * above.exposed
