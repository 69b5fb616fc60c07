"""Broken model folders are found before anything starts, in one line that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vlrm_ray.config import asset_path, load
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.setup import judge_from_folder
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.reward.model_folder import check_model, check_packing

CASES = Path(__file__).parents[1] / "data" / "cases" / "21"
POINTER = (CASES / "lfs-pointer.txt").read_bytes()
WEIGHTS = "model.safetensors"
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(asset_path("assets:vlm"), tmp_path / "vlm"))


def sharded(folder: Path) -> None:
    """Replace the weights by three shards and their index."""
    (folder / WEIGHTS).unlink()
    for i, name in enumerate(SHARDS):
        save_file({f"layer.{i}": np.zeros(4, np.float32)}, folder / name)
    index = {"weight_map": {f"layer.{i}": name for i, name in enumerate(SHARDS)}}
    (folder / INDEX).write_text(json.dumps(index))


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size]) and None


def all_of(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: [change(folder) for change in changes] and None


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "pointer": (write(WEIGHTS, POINTER), r"model\.safetensors is a Git LFS pointer, not weights; run `git lfs pull`"),
    "pointer tokenizer": (write("tokenizer.json", POINTER), r"tokenizer\.json is a Git LFS pointer"),
    "pointer config": (write("config.json", POINTER), r"config\.json is a Git LFS pointer"),
    "pointer shard": (all_of(sharded, write(SHARDS[1], POINTER)), rf"{SHARDS[1]} is a Git LFS pointer"),
    "pointer index": (all_of(sharded, write(INDEX, POINTER)), "index.json is a Git LFS pointer"),
    "empty": (write(WEIGHTS, b""), r"model\.safetensors is not a complete safetensors file .*download it again"),
    "page": (write(WEIGHTS, b"<html>404</html>" * 9), "not a complete safetensors file"),
    "cut in header": (cut(WEIGHTS, 500), "not a complete safetensors file"),
    "cut in weights": (cut(WEIGHTS, 100_000), "not a complete safetensors file"),
    "dead link": (
        all_of(remove(WEIGHTS), lambda folder: (folder / WEIGHTS).symlink_to("nowhere")),
        r"model\.safetensors is not a complete safetensors file \(No such file",
    ),
    "folder": (all_of(remove(WEIGHTS), lambda folder: (folder / WEIGHTS).mkdir()), "not a complete safetensors file"),
    "shard missing": (all_of(sharded, remove(SHARDS[2])), rf"lacks {SHARDS[2]}, which {INDEX} names"),
    "shards missing": (all_of(sharded, remove(*SHARDS[1:])), rf"lacks {SHARDS[1]} and 1 more"),
    "all shards missing": (all_of(sharded, remove(*SHARDS)), rf"lacks {SHARDS[0]} and 2 more, which {INDEX} names"),
    "shard missing, no index": (all_of(sharded, remove(SHARDS[0], INDEX)), rf"lacks {SHARDS[0]}"),
    "tensor missing": (
        all_of(sharded, write(INDEX, json.dumps({"weight_map": {"layer.9": SHARDS[0]}}).encode())),
        r"lacks the tensor layer\.9",
    ),
    "index without map": (all_of(sharded, write(INDEX, b"{}")), "has no weight_map"),
    "index is a list": (all_of(sharded, write(INDEX, b"[]")), "holds a list, not a JSON object"),
    "no weights": (remove(WEIGHTS), r"holds no \.safetensors weights"),
    "pickled": (all_of(remove(WEIGHTS), write("pytorch_model.bin", b"x")), "pickled weights are not loaded"),
    "newer tokenizer": (
        write("tokenizer.json", (CASES / "tokenizer-new.json").read_bytes()),
        r"tokenizer\.json cannot be read: Unknown tokenizer version '9\.9'",
    ),
    "empty tokenizer": (write("tokenizer.json", b""), r"tokenizer\.json cannot be read"),
    "tokenizer no text": (write("tokenizer.json", b"\xff\xfe\x00"), r"tokenizer\.json cannot be read"),
    "tokenizer cut": (cut("tokenizer.json", 2000), r"tokenizer\.json cannot be read"),
    "tokenizer of no model": (write("tokenizer.json", b'{"version": "1.0"}'), r"tokenizer\.json cannot be read"),
    "no tokenizer": (remove("tokenizer.json"), "has no tokenizer"),
    "broken old tokenizer": (
        all_of(remove("tokenizer.json"), write("vocab.json", b"{"), write("merges.txt", b"")),
        r"has no tokenizer\.json, and its older tokenizer cannot be loaded",
    ),
    "tokenizer settings cut": (cut("tokenizer_config.json", 10), r"tokenizer_config\.json cannot be read as JSON"),
    "no image settings": (remove("processor_config.json"), "has no preprocessor_config.json or processor_config.json"),
    "config cut": (cut("config.json", 50), r"config\.json cannot be read as JSON"),
    "config is a list": (write("config.json", b"[]"), "holds a list, not a JSON object"),
    "no config": (remove("config.json"), "no config.json"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_refused(kind: str, folder: Path) -> None:
    change, message = BROKEN[kind]
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        check_model("critic.model", str(folder))
    assert str(caught.value).startswith(f"critic.model: {folder}")
    assert "\n" not in str(caught.value)


def test_good_folders_pass(folder: Path) -> None:
    for name in ("assets:vlm", "assets:extractor", str(folder), "some/hub-name"):
        check_model("critic.model", name)
    sharded(folder)
    check_model("critic.model", str(folder))


@pytest.mark.parametrize("key", ["policy.model", "critic.model", "experts.extractor_model"])
def test_every_model_of_a_run_is_checked(key: str, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(POINTER)
    with pytest.raises(UserError, match=rf"^{key}: .* is a Git LFS pointer"):
        check_inputs(load(None, [f"{key}={folder}", "experts.extractor=llm"]))


WINDOW = {"sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"text_config": WINDOW}, "its sliding window of 1024 tokens is shorter than train.max_tokens=8192"),
        ({"text_config": {"sliding_window": 4096}}, "its sliding window of 4096 tokens is shorter"),
        ({"text_config": {"layer_types": ["linear_attention"]}}, "it has layers of linear_attention"),
        ({"model_type": "gemma3"}, "its images attend in both directions"),
        ({"text_config": {"use_bidirectional_attention": "vision"}}, "its images attend in both directions"),
    ],
)
def test_a_critic_whose_attention_cannot_be_packed_is_refused(
    change: dict[str, Any], problem: str, folder: Path
) -> None:
    (folder / "config.json").write_text(json.dumps(change))
    message = f"^critic.model: {folder} cannot be trained with packed sequences, because {problem}.*; set train.packing=false$"
    with pytest.raises(UserError, match=message):
        check_inputs(load(None, [f"critic.model={folder}"]))
    check_packing("critic.model", str(folder), load(None, ["train.packing=false"]).train)


@pytest.mark.parametrize(
    ("change", "max_tokens"),
    [
        ({"text_config": WINDOW}, 1024),
        ({"sliding_window": 32, "use_sliding_window": False}, 8192),
        ({"text_config": {"sliding_window": 32, "layer_types": ["full_attention"]}}, 8192),
        ({}, 8192),
    ],
)
def test_a_window_that_leaves_no_token_out_can_be_packed(change: dict[str, Any], max_tokens: int, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(change))
    check_packing("critic.model", str(folder), load(None, [f"train.max_tokens={max_tokens}"]).train)


def test_the_judge_of_a_benchmark_is_checked(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(POINTER)
    with pytest.raises(UserError, match=r"^--rm: .* is a Git LFS pointer"):
        judge_from_folder(folder, None, 1, None, ())


def test_the_experts_files_are_checked_for_pointers(tmp_path: Path) -> None:
    (tmp_path / "yolo.pt").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"^experts\.detector\.model: .*yolo\.pt is a Git LFS pointer"):
        check_inputs(load(None, [f"experts.detector.model={tmp_path}/yolo.pt"]))
    ocr = Path(shutil.copytree(asset_path("assets:ocr/detection"), tmp_path / "ocr"))
    (ocr / "inference.onnx").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"^experts\.reader\.detection_model: .*inference\.onnx is a Git LFS pointer"):
        check_inputs(load(None, [f"experts.reader.detection_model={ocr}"]))


def test_a_policy_with_too_few_positions_to_extract_claims_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"policy.model: assets:vlm has 1024 positions, and experts.extractor=llm .* needs 2048"
    ):
        check_inputs(load(None, ["experts.extractor=llm", "experts.extractor_model=", "policy.engine.kind=vllm"]))
    check_inputs(load(None, ["experts.extractor=llm", "policy.engine.kind=vllm"]))  # the shipped extractor has enough


def test_the_folder_of_a_run_is_not_taken_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "versions" / "0002").mkdir(parents=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is the folder of a run; give one of its versions, such as .*/versions/0002"):
        check_model("--rm", str(tmp_path))
