"""How busy the GPUs of a run were, and the advice on how to divide them."""

from typing import Any

import pytest

from vlrm_ray.config import load
from vlrm_ray.pipeline.utilization import advice, advice_text, idle

GPUS = (
    "policy.engine.gpus=1", "policy.engine.actors=4", "critic.engine.gpus=1", "critic.engine.actors=2", "train.gpus=1",
    "train.workers=2", "experts.reader.enabled=false", "evaluation.pairs=0",
)  # fmt: skip


def config(*overrides: str) -> dict[str, Any]:
    return load(None, [*GPUS, *overrides]).model_dump(mode="json")


def round_of(start: float, generate: float, judge: float, train_at: float, train: float) -> dict[str, Any]:
    """A round whose engines begin together at a time."""
    spans = {f"policy-{i}": [[start, start + generate]] for i in range(4)}
    spans |= {f"critic-{i}": [[start, start + judge]] for i in range(2)}
    return {
        "select": {"spans": spans},
        "train": {"began": train_at, "ended": train_at + train, "seconds": train, "steps": {"seconds": train}},
    }


def test_one_after_the_other_leaves_each_gpu_idle_while_others_work() -> None:
    """100 s of generating and 100 s of training: the generators are idle for half of the time, so are the trainers."""
    results = {1: round_of(0, 100, 50, 100, 100), 2: round_of(200, 100, 50, 300, 100)}
    found = idle(config(), results)
    assert (found["gpus"], found["seconds"]) == (8, 200)
    assert found["idle_by_role"] == {"generate": 0.5, "judge": 0.75, "train": 0.5}
    assert found["idle"] == pytest.approx((4 * 0.5 + 2 * 0.75 + 2 * 0.5) / 8)


def test_with_overlap_the_same_work_leaves_none_idle() -> None:
    results = {1: round_of(0, 100, 100, 100, 100), 2: round_of(100, 100, 100, 200, 100)}
    assert idle(config(), results)["idle"] == 0


def test_an_evaluation_keeps_the_critics_busy() -> None:
    results = {1: round_of(0, 100, 0, 100, 100), 2: round_of(200, 100, 0, 300, 100)}
    results[1]["evaluate"] = {"began": 200.0, "ended": 250.0, "seconds": 50.0}
    assert idle(config(), results)["idle_by_role"]["judge"] == 0.75


@pytest.mark.parametrize("overrides", [("policy.engine.gpus=0", "critic.engine.gpus=0", "train.gpus=0"), ()])
def test_nothing_is_said_without_gpus_or_before_the_second_training(overrides: tuple[str, ...]) -> None:
    results = {1: round_of(0, 100, 50, 100, 100)} | ({2: round_of(200, 1, 1, 300, 1)} if overrides else {})
    assert idle(config(*overrides), results) == {}


def test_the_advice_gives_gpus_to_whoever_has_most_to_do() -> None:
    """400 GPU seconds of generating, 100 of judging and 300 of training divide 8 GPUs best as 4, 1 and 3."""
    results = {1: round_of(0, 100, 50, 100, 150)}
    found = advice(config("cluster.overlap=1"), results)
    assert found["advised"] == {"generate": 4, "judge": 1, "train": 3}
    assert (found["seconds"], found["advised_seconds"]) == (150, 100)
    assert advice_text(found) == (
        "balance of the GPUs, by the rates of round 1: generate 4, judge 2, train 2 takes 150 s a round; generate 4, "
        "judge 1, train 3 would take about 100 s"
    )


def test_fractions_of_a_gpu_are_divided_too() -> None:
    """0.3 + 0.3 + 0.4 of one GPU: 1 - 0.3 - 0.3 is a little less than 0.4 in floating point."""
    shared = config("policy.engine.gpus=0.3", "policy.engine.actors=1", "critic.engine.gpus=0.3",
                    "critic.engine.actors=1", "train.gpus=0.4", "train.workers=1")  # fmt: skip
    assert advice(shared, {1: round_of(0, 100, 50, 100, 150)})["advised"] == {
        "generate": 0.3,
        "judge": 0.3,
        "train": 0.4,
    }


def test_without_overlap_the_advice_says_what_overlap_would_gain() -> None:
    found = advice(config(), {1: round_of(0, 100, 50, 100, 150)})
    assert found["overlapped_seconds"] == 100
    assert "with cluster.overlap=1 it could be about 100 s" in advice_text(found)


def test_critiques_by_the_newest_version_wait_for_the_training() -> None:
    """They cannot run at the same time, so a round takes longer than if the untrained model writes."""
    results = {1: round_of(0, 100, 100, 100, 100)}
    assert advice(config("cluster.overlap=1", "critic.writer=newest"), results)["seconds"] == 200
    assert advice(config("cluster.overlap=1", "critic.writer=base"), results)["seconds"] == 100
    assert (
        advice(config("cluster.overlap=1", "selection.mastered=0.5", "critic.engine.actors=2"), results)["seconds"]
        == 200
    )


def test_neither_advice_nor_idle_time_is_told_of_engines_that_come_and_go() -> None:
    elastic = config("policy.engine.actors=1", "policy.engine.max_actors=4", "policy.engine.reproducible=false")
    assert advice(elastic, {1: round_of(0, 100, 100, 100, 100)}) == {}
    assert idle(elastic, {1: round_of(0, 100, 50, 100, 100), 2: round_of(200, 100, 50, 300, 100)}) == {}


def test_there_is_no_advice_where_engines_and_training_share_the_gpus() -> None:
    assert advice(config("cluster.placement=phased"), {1: round_of(0, 100, 100, 100, 100)}) == {}
    assert advice_text({}) == ""
