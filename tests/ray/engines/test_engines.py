"""Real engines with the tiny model: all libraries compute the same scores, and load new weights in place."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.ray.engines.engine_answers import answers, settings
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.errors import UserError

Answers = dict[str, dict[str, Any]]
"""Answers of each kind of engine, as `engine_answers.answers` returns them."""


@pytest.fixture(scope="module")
def results(vllm_answers: dict[str, Any], engine_folder: Path) -> Answers:
    from vlrm_ray.reward.transformers_engine import TransformersEngine

    engine = TransformersEngine(settings("transformers"))
    return {
        "vllm": vllm_answers["engine"],
        "transformers": answers(engine, str(engine_folder / "other"), str(engine_folder)),
    }


def largest_difference(first: list[list[float]], second: list[list[float]]) -> float:
    return max(abs(a - b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def test_rewards_of_a_bfloat16_engine_are_not_as_coarse_as_its_weights(vllm_answers: dict[str, Any]) -> None:
    """Logits in bfloat16 would be multiples of a 64th or more, and so would their differences."""
    steps = [64 * math.log(yes / no) for yes, no in vllm_answers["bfloat16"]]
    assert sum(abs(step - round(step)) > 0.05 for step in steps) > len(steps) / 2


@pytest.mark.parametrize("when", ["scores", "after", "back"])
def test_engines_give_the_same_scores(results: Answers, when: str) -> None:
    assert largest_difference(results["vllm"][when], results["transformers"][when]) < 1e-3


@pytest.mark.parametrize("kind", ["vllm", "transformers"])
def test_loading_changes_the_scores_and_loading_back_restores_them(results: Answers, kind: str) -> None:
    found = results[kind]
    assert largest_difference(found["scores"], found["after"]) > 1e-3
    assert largest_difference(found["scores"], found["back"]) < 1e-6


def test_engines_write_and_judge_the_same_greedy_critique(results: Answers) -> None:
    (text, *probabilities), (other, *others) = results["vllm"]["critique"][0], results["transformers"]["critique"][0]
    assert text == other
    assert probabilities == pytest.approx(others, abs=1e-3)
    assert sum(probabilities) > 0.5


@pytest.mark.parametrize("kind", ["vllm", "transformers"])
def test_a_seeded_request_gets_the_same_samples_each_time(results: Answers, kind: str) -> None:
    first, second = results[kind]["sampled"]
    assert first == second
    assert len(set(map(str, first))) > 1


@pytest.mark.parametrize("kind", ["vllm", "transformers"])
def test_an_answer_says_whether_it_was_cut(results: Answers, kind: str) -> None:
    assert results[kind]["cut"] == [True, False]


def test_a_setting_that_the_model_does_not_have_is_named(vllm_answers: dict[str, Any]) -> None:
    refusal = vllm_answers["refusal"]
    assert "vLLM refuses the settings" in refusal
    assert "max_model_len (100000)" in refusal
    assert "\n" not in refusal


def test_the_transformers_engine_refuses_a_json_schema_and_names_the_engine_that_follows_one() -> None:
    from vlrm_ray.reward.transformers_engine import TransformersEngine

    with pytest.raises(UserError, match="vllm"):
        TransformersEngine(settings("transformers")).generate([Request("What?", None)], Sampling(8, json_schema="{}"))
