"""The tables of rounds and costs in docs/cluster.md are those that `python jobs/bench.py sizes` computes."""

from math import ceil
from pathlib import Path

import pytest

from jobs.benches import sizes
from jobs.benches.train_paper import LENGTH, TOKENS, sizes_of, step_of
from vlrm_ray import config as configuration
from vlrm_ray.pipeline import resource_plan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
RATES = {1: 20.0, 2: 40.0, 4: 80.0, 8: 160.0}
SMALL = sizes.MODELS[0]


def test_the_tables_of_the_page_are_up_to_date() -> None:
    rows = [*sizes.rounds_table(), *sizes.costs_table()]
    assert [row for row in rows if row not in PAGE] == []


def test_the_shipped_configuration_divides_8_gpus_as_computed() -> None:
    shipped = configuration.load(ROOT / "jobs" / "configs" / "qwen2_5_vl_7b.yaml")
    best = sizes.disaggregated(SMALL, 8, sizes.train_rates(SMALL, 8))
    split = (shipped.policy.engine.actors, shipped.critic.engine.actors, shipped.train.workers)
    assert split == (best.generate, best.judge, best.train)
    assert resource_plan.peak(shipped) == (64, 8)
    assert "64 CPUs\nand 8 GPUs at the same time" in PAGE


def test_the_experts_figures_are_those_that_were_measured_with_the_small_models() -> None:
    measured = (ROOT / "docs" / "photographs.md").read_text()
    assert f"takes {sizes.DETECT_SECONDS:g} s of CPU time per image, the OCR {sizes.READ_SECONDS:g} s" in measured
    assert (
        f"{sizes.READ_SECONDS:g} s of CPU time\n  per image for reading and {sizes.DETECT_SECONDS:g} s for detecting"
        in PAGE
    )


def test_experts_keep_up_with_the_engines_while_these_work() -> None:
    """With 2 generators and 3 critics a stream takes 875 s for 8,192 images: 9.4 a second, on 3.7 and 7.5 CPUs."""
    plan = sizes.disaggregated(SMALL, 8, sizes.train_rates(SMALL, 8))
    assert plan.images == pytest.approx(9.4, abs=0.05)
    assert plan.expert_cpus == (4, 8)
    assert plan.stream < plan.seconds  # the training comes after it


def test_the_page_says_how_large_pools_of_experts_keep_up() -> None:
    """A reader works on one CPU, a detector on four."""
    needs = [sizes.disaggregated(SMALL, n, sizes.train_rates(SMALL, n)).expert_cpus for n in (8, 16, 64)]
    readers, detectors = [read for read, _ in needs], [ceil(detect / 4) for _, detect in needs]
    text = " ".join(PAGE.split())
    assert "with 7B and these models {} on 8 GPUs, {} on 16 and {} on 64 GPUs".format(*readers) in text
    assert "`experts.detector.pool.cpus=4` an `experts.detector.pool.max` of {}, {} and {}".format(*detectors) in text
    pool = configuration.load(ROOT / "jobs" / "configs" / "qwen2_5_vl_7b.yaml").experts.reader.pool
    assert f"the configuration has {pool.max}" in text
    assert pool.cpus == 1
    assert pool.max >= readers[1]


def test_the_best_split_uses_all_gpus_and_no_other_split_is_faster() -> None:
    plan = sizes.disaggregated(SMALL, 8, RATES)
    assert plan.generate + plan.judge + plan.train == 8
    others = (
        sizes._plan(SMALL, writers, 8 - train - writers, train, RATES)
        for train in RATES
        for writers in range(1, 8 - train)
    )
    assert plan.seconds == min(other.seconds for other in others)


def test_phased_rounds_keep_all_gpus_busy_but_for_the_uneven_split_of_engines() -> None:
    own, shared = sizes.disaggregated(SMALL, 8, RATES), sizes.phased(SMALL, 8, RATES)
    assert shared.seconds < own.seconds
    assert 0 <= shared.idle < 0.1 < own.idle


def test_engines_are_as_fast_as_the_roofline_of_their_flops() -> None:
    """7B: 2 x 7.6e9 FLOP for each of 3,172 tokens and 5.5e12 for the image, at the measured 0.28 of 989e12 FLOP/s."""
    assert sizes.generate_seconds(SMALL) == pytest.approx((2 * 7.6e9 * 3172 + 5.5e12) / (0.278 * 989e12), rel=0.005)


def test_training_has_the_tokens_that_the_page_assumes() -> None:
    """Two critiques and a response, each with the image and the question: more tokens than were measured, and as much slower."""
    assert sizes.PAIR_TOKENS == 2 * (1024 + 100 + 300 + 256 + 400) + 1024 + 100 + 256
    assert f"a pair has {sizes.PAIR_TOKENS:,} tokens in the training" in PAGE
    measured = step_of(SMALL.case, sizes_of(SMALL.case), 1)
    rate = sizes.SHARED_PREFIX * TOKENS / LENGTH / measured.compute
    assert sizes.train_rates(SMALL, 1)[1] == pytest.approx(rate * 2457 / 5540, rel=0.1)


def test_a_model_of_32b_trains_on_enough_gpus_only() -> None:
    assert 1 not in sizes.train_rates(sizes.MODELS[1], 4)
