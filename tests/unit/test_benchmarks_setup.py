"""Configuration of a judge from a model folder, and the check that an output folder belongs to one judge."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.setup import Judge, claim_output_folder, judge_from_folder
from vlrm_ray.pipeline import placement, resource_plan
from vlrm_ray.pipeline.placement import Node
from vlrm_ray.store.ledger import Ledger

SHIPPED = Path(__file__).parents[2] / "jobs" / "configs" / "qwen2_5_vl_7b.yaml"
MODEL = Path(__file__).parents[2] / "vlrm_ray" / "scenes" / "assets" / "vlm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder of a VLM."""
    made = tmp_path / "model"
    made.mkdir()
    for name in ("config.json", "processor_config.json", "tokenizer.json", "model.safetensors"):
        (made / name).symlink_to(MODEL / name)
    return made


def judge(folder: Path, *overrides: str, kind: str | None = None, k: int = 1) -> Judge:
    return judge_from_folder(folder, kind, k, None, overrides)


def card(folder: Path, content: Any) -> Path:
    (folder / "vlrm_reward.json").write_text(json.dumps(content))
    return folder


def test_a_plain_vlm_judges_pairwise_in_the_critique_format_for_large_models(folder: Path) -> None:
    configured = judge(folder)
    assert (configured.kind, configured.config.critic.format) == ("pairwise", "detailed")
    assert configured.config.critic.engine.max_model_len == 1024  # the model's maximum, below the default of 8192
    assert judge(folder, "critic.engine.max_model_len=700").config.critic.engine.max_model_len == 700


def test_sizes_that_a_configuration_file_does_not_set_are_those_of_the_critique_format(
    folder: Path, tmp_path: Path
) -> None:
    """Without a file the same; the defaults of the configuration, 120 and 512 tokens, are those of the tiny model."""

    def sizes(text: str, *overrides: str) -> tuple[int, int]:
        (tmp_path / "mine.yaml").write_text(text)
        critic = judge_from_folder(folder, None, 1, str(tmp_path / "mine.yaml"), overrides).config.critic
        return critic.max_tokens, critic.engine.max_model_len

    card(folder, {"critique_format": "detailed"})
    assert sizes("critic: {engine: {cpus: 1}}") == (512, 1024)
    assert sizes("critic: {max_tokens: 300}") == (300, 1024)
    assert sizes("critic: {engine: {max_model_len: 700}}") == (350, 700)
    assert sizes("critic: {max_tokens: 300}", "critic.max_tokens=200", "critic.engine.max_model_len=800") == (200, 800)
    card(folder, {"critique_format": "compact"})
    assert sizes("critic: {engine: {cpus: 1}}") == (120, 512)


def test_a_published_reward_model_judges_pointwise_in_its_own_critique_format(folder: Path) -> None:
    configured = judge(card(folder, {"critique_format": "compact"}), k=4)
    assert (configured.kind, configured.config.critic.format, configured.config.critic.k) == ("pointwise", "compact", 4)
    assert judge(folder, kind="pairwise").kind == "pairwise"


def test_only_the_judge_engine_requests_resources(folder: Path) -> None:
    cpus, gpus = resource_plan.peak(
        judge(folder, "critic.engine.gpus=1", "critic.engine.cpus=2", "critic.engine.actors=1").config
    )
    assert cpus <= 2.5
    assert gpus == 1


def test_the_configuration_of_a_run_on_8_gpus_judges_on_one(folder: Path) -> None:
    """What a run starts besides its critics is not started, so neither its resources nor its labels are asked for."""
    overrides = ["critic.engine.actors=1", "cluster.labels=vlrm-role"]
    config = judge_from_folder(folder, None, 1, str(SHIPPED), overrides).config
    assert resource_plan.peak(config) == (8, 1)
    nodes = [Node(8, 1, {"vlrm-role": "judge"}), Node(2, 0, {"vlrm-role": "cpu"})]
    placement.check_nodes(config, nodes, "the cluster")


def test_a_run_whose_policy_may_grow_can_be_judged_with_its_configuration(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("policy: {engine: {gpus: 1, max_actors: 4}}")
    assert resource_plan.peak(judge_from_folder(folder, None, 1, str(tmp_path / "mine.yaml"), ()).config)[1] == 0


@pytest.mark.parametrize("text", ["jobs/score.py", "jobs/evaluations/bench.py", "docs/scoring.md"])
def test_judging_on_a_gpu_is_shown_with_one_critic_because_the_default_is_two(text: str) -> None:
    content = " ".join((MODEL.parents[3] / text).read_text().replace("\\\n", " ").replace("\\", " ").split())
    assert "critic.engine.actors=1 critic.engine.gpus=1 critic.engine.dtype=bfloat16" in content
    assert content.count("critic.engine.gpus=1") == content.count("critic.engine.actors=1")
    assert re.search("Without `?RAY_ADDRESS`? give `?cluster.cpus`? too", content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"critique_format": "poem"}, "expected one of compact, .*got 'poem'"),
        ([], "is not a valid reward model card"),
    ],
)
def test_a_bad_card_is_rejected_with_its_path(content: Any, expected: str, folder: Path) -> None:
    with pytest.raises(UserError, match=expected):
        judge(card(folder, content))


def test_a_folder_without_a_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder not found"):
        judge(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a Hugging Face model folder"):
        judge(tmp_path)


def test_a_name_of_the_hub_is_not_taken_and_the_way_to_fetch_its_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not taken: .*`hf download Qwen/VL --local-dir vlm`, then give --rm vlm$"):
        judge(Path("Qwen/VL"))
    with pytest.raises(UserError, match=r"--rm /no/vlm: folder not found; .* a Hugging Face VLM$"):
        judge(Path("/no/vlm"))


def test_results_of_two_judges_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    claim_output_folder(out, "pope", judge(folder), None)
    claim_output_folder(out, "pope", judge(folder), None)
    with pytest.raises(UserError, match="blind: None -> True"):
        claim_output_folder(out, "pope", judge(folder), None, blind=True)
    with pytest.raises(UserError, match=r"k: 1 -> 3"):
        claim_output_folder(out, "pope", judge(folder, k=3), None)
    with pytest.raises(UserError, match=r"benchmark: pope -> amber"):
        claim_output_folder(out, "amber", judge(folder), None)
    with pytest.raises(UserError, match="model: "):
        judged = judge(card(folder, {"critique_format": "detailed", "canary": {"yes": 0.2}}), kind="pairwise")
        claim_output_folder(out, "pope", judged, None)


def test_the_calibration_belongs_to_a_judge_that_averages_rewards(folder: Path, tmp_path: Path) -> None:
    """Judgements by several critiques from before calibrations were used are not mixed with new ones."""
    card(folder, {"critique_format": "compact"})
    (folder / "vlrm_calibration.json").write_text('{"temperature": 6.26}')
    found = [judge(folder, k=4), judge(folder, k=1), judge(folder, k=4, kind="pairwise")]
    assert [each.calibration for each in found] == [6.26, None, None]
    for number, each in enumerate(found):
        before = {key: value for key, value in each.identity.items() if key != "calibration"}
        Ledger(str(tmp_path / str(number))).put_json("bench.json", {"benchmark": "pope", "images": "", **before})
    with pytest.raises(UserError, match=r"calibration: None -> 6\.26"):
        claim_output_folder(str(tmp_path / "0"), "pope", found[0], None)
    claim_output_folder(str(tmp_path / "1"), "pope", found[1], None)
    claim_output_folder(str(tmp_path / "2"), "pope", found[2], None)


def test_two_models_of_the_same_shape_are_told_apart(folder: Path, tmp_path: Path) -> None:
    """All files have the same names and sizes; only one weight differs."""
    out, weights = str(tmp_path / "out"), folder / "model.safetensors"
    claim_output_folder(out, "pope", judge(folder), None)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(
        UserError, match=r"another benchmark, model or setting \(model: \w+ -> \w+\); give another folder"
    ):
        claim_output_folder(out, "pope", judge(folder), None)


def test_results_with_other_images_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    claim_output_folder(out, "pope", judge(folder), "photos")
    claim_output_folder(out, "pope", judge(folder), "photos/")
    with pytest.raises(UserError, match=r"\(images: photos -> others\)"):
        claim_output_folder(out, "pope", judge(folder), "others")
    with pytest.raises(UserError, match=r"\(images: photos -> \)"):
        claim_output_folder(out, "pope", judge(folder), None)


def test_a_folder_from_before_models_were_told_apart_by_content_is_refused(folder: Path, tmp_path: Path) -> None:
    ledger, judged = Ledger(str(tmp_path / "out")), judge(folder)
    ledger.put_json("bench.json", {"benchmark": "pope", **judged.identity, "model": "names and sizes"})
    with pytest.raises(UserError, match=r"images: None -> ; model: names and sizes -> \w+\); give another folder"):
        claim_output_folder(str(tmp_path / "out"), "pope", judged, None)
