"""Invalid input is reported in one line, or recorded as the reason of a quarantined row."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.unit.image_files import png
from vlrm_ray.config import load
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.pipeline import prompts
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.store import images
from vlrm_ray.types import ImageCondition, PromptRef

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image_undecodable"),
        (b"not an image", "image_undecodable"),
        (png(width=64)[:60], "image_undecodable"),
        (b"%PDF-1.4", "image_undecodable"),
    ],
)
def test_broken_images_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        images.decode(data)


def test_a_decompression_bomb_is_refused_before_decoding() -> None:
    bomb = io.BytesIO()
    Image.new("1", (9500, 9500)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(BadImage):
        images.decode(bomb.getvalue())


def test_missing_images_have_a_reason(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="image_missing"):
        images.validate_image(str(tmp_path / "none.png"))


def test_an_image_in_each_condition(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(width=64))
    assert images.load_in_condition(str(path), ImageCondition.IMAGE_FREE) is None
    full, degraded = (
        images.load_in_condition(str(path), ImageCondition.FULL),
        images.load_in_condition(str(path), ImageCondition.IMAGE_DEGRADED),
    )
    assert full is not None
    assert degraded is not None
    assert full.tobytes() != degraded.tobytes()


def test_prompts_from_a_folder_and_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    assert tuple(prompts.read_source(str(tmp_path), "What is it?")) == (
        PromptRef(str(tmp_path / "a.png"), "What is it?"),
    )
    table = tmp_path / "p.jsonl"
    table.write_text(json.dumps({"image": "a.png", "question": "Why?"}) + "\n")
    assert tuple(prompts.read_source(str(table), "")) == (PromptRef(str(tmp_path / "a.png"), "Why?"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no prompts"),
        ("{", "line 1 is not JSON"),
        ('{"image": "a.png"}', "row 1"),
        ('{"image": 1, "question": "x"}', "row 1"),
        ("[1]", "row 1"),
    ],
)
def test_a_bad_prompt_file_names_the_row(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        prompts.read_source(str(path), "")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.model=./nowhere", "policy.model"),
        (
            "policy.model=qwen",
            "policy.model: there is no folder qwen, and a name of the hub is OWNER/NAME; give either",
        ),
        ("critic.model=models/of/mine", "critic.model: there is no folder models/of/mine, and a name of the hub is"),
        ("experts.detector.model=owl", "experts.detector.model: there is no folder owl, and a name of the hub is"),
        ("critic.model=assets:detector", "no config.json"),
        ("experts.detector.model=./no.pt", "experts.detector.model"),
        ("experts.reader.detection_model=./no", "experts.reader.detection_model"),
        ("prompts.source=./none.jsonl", "does not exist"),
    ],
)
def test_missing_inputs_are_reported_before_anything_starts(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_inputs(load(None, [override]))


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        ([], "policy.model, critic.model and experts.detector.model know"),
        (["policy.samples=0"], "critic.model and experts.detector.model know"),
        (["policy.model=qwen/vl", "critic.model=qwen/vl"], "experts.detector.model knows"),
    ],
)
def test_shipped_models_are_named_that_are_to_look_at_photographs(
    tmp_path: Path, overrides: list[str], known: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"image": "a.png", "question": "Why?", "responses": ["So."]}\n')
    remarks = check_inputs(load(None, [f"prompts.source={data}", *overrides]))
    assert f"{known} only the embedded scenes; see docs/own-data.md#models-for-photographs" in remarks
    assert check_inputs(load(None)) == ()


@pytest.mark.parametrize(("cached", "told"), [(False, ["critic.model"]), (True, [])])
def test_a_name_that_may_be_a_mistyped_folder_is_told_unless_the_model_is_in_the_cache_of_the_hub(
    cached: bool, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "config.json" if cached else None)
    remark = (
        "there is no folder models/vlm, so it is a name of the Hugging Face hub: fetched when engines start, not checked; "
        "give a folder to have it checked"
    )
    assert check_inputs(load(None, ["critic.model=models/vlm"])) == tuple(f"{key}: {remark}" for key in told)


def test_a_source_with_fewer_prompts_than_a_round_takes_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"image": "{name}.png", "question": "Why?"}}\n' for name in "ab"))
    remark = "prompts.source has 2 prompts, fewer than prompts.per_round (320); such a round takes all"
    assert remark in check_inputs(load(None, [f"prompts.source={data}"]))
    assert remark not in check_inputs(load(None, [f"prompts.source={data}", "prompts.per_round=2"]))


def test_a_model_without_label_tokens_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"] = {"type": "BPE", "vocab": {c: i for i, c in enumerate("YesNo ")}, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="single token for 'Yes'"):
        check_inputs(load(None, [f"critic.model={tmp_path}"]))


def test_a_folder_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder; give a YAML file"):
        load(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [["train.lrr=1"], ["--config", "nowhere.yaml"], ["cluster.cpus=1", "train.cpus=9"], ["prompts.source=/nowhere"]],
)
def test_the_driver_ends_with_one_line_and_status_2(arguments: list[str], tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "iterate.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_dry_run_prints_configuration_and_plan_and_writes_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "iterate.py"), "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0
    assert "per_round: 320" in result.stdout
    assert "critique writer" in result.stdout
    assert "\nat its largest: " in result.stdout
    assert result.stdout.splitlines()[-1].startswith("nothing was checked: jobs/doctor.py")
    assert list(tmp_path.iterdir()) == []
