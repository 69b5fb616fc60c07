"""The canary of a published version: compared by meaning, with a tolerance that depends on the data type."""

import json
from pathlib import Path

import pytest

from vlrm_ray.engines import Completion
from vlrm_ray.reward.canary import TOLERANCES, WrongWeights, check_canary
from vlrm_ray.reward.model_folder import CARD


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / CARD).write_text(json.dumps({"canary": {"image": "canary.png", "yes": 0.6, "no": 0.3}}))
    return str(tmp_path)


def check(folder: str, score: Completion, dtype: str) -> None:
    check_canary(score, folder, 3, dtype, "critic-1 on node b")


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_published_score_is_accepted(folder: str, dtype: str) -> None:
    check(folder, Completion("", 0.6, 0.3), dtype)


def test_only_the_ratio_counts_not_the_probability_of_other_tokens(folder: str) -> None:
    check(folder, Completion("", 0.4, 0.2), "float32")


@pytest.mark.parametrize(("dtype", "accepted"), [("float32", False), ("float16", False), ("bfloat16", True)])
def test_a_rounding_step_of_bfloat16_is_accepted_in_bfloat16_only(folder: str, dtype: str, accepted: bool) -> None:
    score = Completion("", 0.6, 0.3 * 1.25)  # log-odds lower by 0.22
    if accepted:
        check(folder, score, dtype)
    else:
        with pytest.raises(WrongWeights):
            check(folder, score, dtype)


def test_an_exact_engine_may_differ_from_a_score_computed_in_bfloat16(tmp_path: Path) -> None:
    """Training on GPUs computes in bfloat16, the engine here in float32: what counts is the coarser one."""
    card = {"canary": {"image": "canary.png", "yes": 0.6, "no": 0.3, "dtype": "bfloat16"}}
    (tmp_path / CARD).write_text(json.dumps(card))
    check(str(tmp_path), Completion("", 0.6, 0.3 * 1.25), "float32")
    with pytest.raises(WrongWeights, match=r"is 0\.5"):
        check(str(tmp_path), Completion("", 0.6, 0.6), "float32")


def test_a_failure_names_both_numbers_the_actor_and_the_node(folder: str) -> None:
    with pytest.raises(WrongWeights) as raised:
        check(folder, Completion("", 0.2, 0.7), "bfloat16")
    message = str(raised.value)
    assert message.startswith("critic-1 on node b has not loaded version 3: its log-odds of the canary are -1.2528 ")
    assert "0.6931 in " in message
    assert "for bfloat16 is 0.5" in message


def test_certain_scores_are_compared_too(folder: str) -> None:
    with pytest.raises(WrongWeights, match=r"are 30\.0000 "):
        check(folder, Completion("", 1.0, 0.0), "bfloat16")


def test_a_refused_canary_is_a_failure(folder: str) -> None:
    with pytest.raises(WrongWeights, match="critic-1 on node b refused the canary of version 3: image_missing"):
        check(folder, Completion("", refused="image_missing"), "float32")


@pytest.mark.parametrize(("old", "found", "accepted"), [(0.67, 0.67, False), (0.67, 0.65, True), (0.62, 0.62, True)])
def test_a_score_that_stayed_where_it_was_is_refused_within_the_tolerance(
    folder: str, old: float, found: float, accepted: bool
) -> None:
    """In bfloat16 the tolerance is as wide as what a round changes: with 0.6 in the card, 0.67 may be the old weights'."""
    after, before = Completion("", found, 1 - found - 0.1), Completion("", old, 1 - old - 0.1)
    if accepted:
        check_canary(after, folder, 3, "bfloat16", "critic-1 on node b", before)
    else:
        with pytest.raises(WrongWeights, match=r"version 3: .*; before loading they were 1\.0692"):
            check_canary(after, folder, 3, "bfloat16", "critic-1 on node b", before)
