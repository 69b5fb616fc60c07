"""Which judge a model's folder makes, and that a result's folder stays with one judge."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.setup import Judge, bind, judge_of

MODEL = Path(__file__).parents[2] / "vlrm_ray" / "scenes" / "assets" / "vlm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder of a VLM."""
    made = tmp_path / "model"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (made / name).symlink_to(MODEL / name)
    return made


def judge(folder: Path, *overrides: str, kind: str | None = None, k: int = 1) -> Judge:
    return judge_of(folder, kind, k, None, overrides)


def card(folder: Path, content: Any) -> Path:
    (folder / "vlrm_reward.json").write_text(json.dumps(content))
    return folder


def test_a_plain_vlm_compares_both_answers_in_the_wording_for_large_models(folder: Path) -> None:
    found = judge(folder)
    assert (found.kind, found.config.critic.format) == ("pairwise", "detailed")
    assert found.config.critic.engine.max_model_len == 1024  # what the model can take, though 8192 was wanted
    assert judge(folder, "critic.engine.max_model_len=700").config.critic.engine.max_model_len == 700


def test_a_published_reward_model_judges_one_answer_at_a_time_in_its_own_wording(folder: Path) -> None:
    found = judge(card(folder, {"critique_format": "compact"}), k=4)
    assert (found.kind, found.config.critic.format, found.config.critic.k) == ("pointwise", "compact", 4)
    assert judge(folder, kind="pairwise").kind == "pairwise"


def test_it_asks_the_cluster_for_its_engine_only(folder: Path) -> None:
    from vlrm_ray.pipeline import resource_plan

    cpus, gpus = resource_plan.peak(judge(folder, "critic.engine.gpus=1", "critic.engine.cpus=2").config)
    assert cpus < 2.5
    assert gpus == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"critique_format": "poem"}, "expected one of compact, .*got 'poem'"),
        ([], "is not a reward model's card"),
    ],
)
def test_a_bad_card_is_named(content: Any, expected: str, folder: Path) -> None:
    with pytest.raises(UserError, match=expected):
        judge(card(folder, content))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        judge(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a Hugging Face model folder"):
        judge(tmp_path)


def test_results_of_two_judges_do_not_mix(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bind(out, "pope", judge(folder))
    bind(out, "pope", judge(folder))
    with pytest.raises(UserError, match=r"k: 1 -> 3"):
        bind(out, "pope", judge(folder, k=3))
    with pytest.raises(UserError, match=r"benchmark: pope -> amber"):
        bind(out, "amber", judge(folder))
    with pytest.raises(UserError, match="model: "):
        bind(out, "pope", judge(card(folder, {"critique_format": "detailed", "canary": {"yes": 0.2}}), kind="pairwise"))
