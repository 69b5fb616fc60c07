"""A sharded model is the model that transformers would load, without any process holding it whole."""

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from tests.unit.ranks import run_ranks
from vlrm_ray import torchvision_shim
from vlrm_ray.config import Lora, Train, asset_path, load, with_overrides
from vlrm_ray.engines import PlainText
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.preflight import check_inputs

torchvision_shim.install()

from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel  # noqa: E402

from vlrm_ray.reward import weight_writing  # noqa: E402
from vlrm_ray.reward.publish import write_folder  # noqa: E402
from vlrm_ray.reward.training.sharded_model import (  # noqa: E402
    base_model,
    block_modules,
    largest_block,
    load_weights,
    meta_model,
    shard,
    slots,
)

ASSET, CPU = asset_path("assets:vlm"), torch.device("cpu")
LORA = Train(lora=Lora(rank=4))
IDS = torch.arange(20, 40)[None]


class Learner(nn.Module):
    """Stands for the module that computes the losses."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids).logits.log_softmax(-1)[..., 5].mean()


def loaded(world: int, settings: Train, folder: str = ASSET, seed: int = 0) -> Any:
    """A sharded learner with the weights of a folder."""
    learner = Learner(meta_model(folder, settings, CPU))
    shard(learner, CPU, world)
    load_weights(learner.model, folder, CPU, seed)
    return learner


def trained(world: int, settings: Train, steps: int = 3) -> Any:
    """The learner after some steps, which change every trained parameter."""
    learner = loaded(world, settings)
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        learner(IDS).backward()
        optimizer.step()
        optimizer.zero_grad()
    return learner


def whole(model: Any) -> dict[str, torch.Tensor]:
    """All parameters by each of their names."""
    values = {}
    for slot in slots(model):
        value = slot.parameter.detach()
        value = value.full_tensor() if isinstance(value, DTensor) else value
        values |= dict.fromkeys(slot.names, value)
    return values


@lru_cache
def reference(folder: str = ASSET) -> PreTrainedModel:
    """The same model as transformers loads it."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


def equal_to_reference(values: dict[str, torch.Tensor], folder: str = ASSET) -> None:
    expected = dict(reference(folder).named_parameters(remove_duplicate=False))
    plain = {name: value for name, value in values.items() if ".lora_" not in name}
    assert plain.keys() == expected.keys()
    assert all(torch.equal(plain[name], value) for name, value in expected.items())


def untied(folder: Path) -> str:
    """A copy of the asset whose output layer has its own weights, in three files and with transformers' new names."""
    shutil.copytree(ASSET, folder)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    names = {"visual.": "model.visual.", "model.": "model.language_model."}
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 2
    for old, new in names.items():
        weights = {new + key.removeprefix(old) if key.startswith(old) and "model.v" not in key else key: value
                   for key, value in weights.items()}  # fmt: skip
    (folder / "model.safetensors").unlink()
    weight_map = {key: f"model-{i % 3 + 1:05d}-of-00003.safetensors" for i, key in enumerate(weights)}
    for name in set(weight_map.values()):
        save_file({k: v for k, v in weights.items() if weight_map[k] == name}, folder / name, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return str(folder)


def test_a_new_model_has_no_memory_but_for_its_buffers() -> None:
    model = meta_model(ASSET, LORA, CPU)
    base = base_model(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert all(torch.equal(buffer, dict(reference().named_buffers())[name]) for name, buffer in base.named_buffers())
    assert base.lm_head.weight is base.get_input_embeddings().weight
    assert model.training
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"weight"}
    assert all(".lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    assert len(block_modules(model)) == 4 + 3


def test_a_frozen_part_is_16_bit_on_gpus_and_its_type_does_not_change_on_cpus() -> None:
    model = meta_model(ASSET, Train(freeze=("vision",)), torch.device("cuda"))
    types = {("visual" in name, p.requires_grad, p.dtype) for name, p in model.named_parameters()}
    assert types == {(True, False, torch.bfloat16), (False, True, torch.float32)}
    assert {p.dtype for p in meta_model(ASSET, LORA, CPU).parameters()} == {torch.float32}


def test_two_ranks_hold_what_transformers_loads(tmp_path: Path) -> None:
    other = untied(tmp_path / "untied")

    def on_rank(rank: int, world: int) -> dict[str, torch.Tensor]:
        del rank
        equal_to_reference(whole(loaded(world, Train(freeze=("vision",))).model))
        equal_to_reference(whole(loaded(world, Train(), other).model), other)
        adapted = loaded(world, LORA)
        equal_to_reference(whole(adapted.model))
        base = base_model(adapted.model)
        assert base.lm_head.weight is base.get_input_embeddings().weight
        share = sum(p.to_local().numel() for p in adapted.parameters())
        assert share <= sum(p.numel() for p in adapted.parameters()) / world + 5_000
        assert largest_block(loaded(world, Train()).model) < 1_000_000
        with torch.no_grad():
            assert torch.equal(adapted.call_model(input_ids=IDS).logits, reference()(input_ids=IDS).logits)
        return {name: value for name, value in whole(adapted.model).items() if ".lora_" in name}

    reference(other)
    two, same = run_ranks(2, tmp_path / "two", on_rank)
    [one] = run_ranks(1, tmp_path / "one", on_rank)
    assert all(torch.equal(two[name], same[name]) for name in two)
    assert all(torch.equal(two[name], one[name]) for name in two), "adapters depend on the number of ranks"
    assert all(bool(value.any()) == (".lora_A." in name) for name, value in two.items())


def test_frozen_16_bit_and_trained_float32_parameters_share_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on GPUs, where base weights under adapters are bfloat16; computed here on CPU, with the GPU's policy."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    monkeypatch.setattr("vlrm_ray.reward.training.sharded_model.MixedPrecisionPolicy", lambda: policy)

    def on_rank(rank: int, world: int) -> None:
        del rank
        learner = Learner(meta_model(ASSET, LORA, torch.device("cuda")))
        shard(learner, CPU, world)
        load_weights(learner.model, ASSET, CPU, 0)
        optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
        losses = []
        for _ in range(4):
            loss = learner(IDS)
            loss.backward()
            assert {p.grad.dtype for p in learner.parameters() if p.grad is not None} == {torch.float32}
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]
        expected = dict(reference().named_parameters(remove_duplicate=False))
        for name, value in whole(learner.model).items():
            assert ".lora_" in name or torch.equal(value, expected[name].to(torch.bfloat16))

    run_ranks(2, tmp_path, on_rank)


def test_two_ranks_publish_the_model_that_they_hold(tmp_path: Path) -> None:
    """Several files, each written by one rank; the LoRA version has merged weights and the adapter beside them."""
    processor = AutoProcessor.from_pretrained(ASSET)
    options = {"dtype": torch.float32, "shard_bytes": 2 << 20, "initial_model": "version:2"}

    def on_rank(rank: int, world: int, name: str, settings: Train) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        learner = trained(world, settings)
        folder = tmp_path / name / str(rank)
        write_folder(learner, processor, folder, "compact", {"version": 3}, rank=rank, world=world, **options)
        learner.eval()
        with torch.no_grad():
            return whole(learner.model), learner.call_model(input_ids=IDS).logits

    for name, settings in (("full", Train()), ("lora", LORA)):
        (values, logits), _ = run_ranks(2, tmp_path / "ranks" / name, on_rank, name, settings)
        files = [sorted(path.name for path in (tmp_path / name / rank).glob("*.safetensors")) for rank in "01"]
        assert len(files[0]) == len(files[1]) == 2
        assert not set(files[0]) & set(files[1])
        published = shutil.copytree(tmp_path / name / "1", tmp_path / name / "0", dirs_exist_ok=True)
        index = json.loads((published / "model.safetensors.index.json").read_text())
        assert index["weight_map"].keys() == load_file(f"{ASSET}/model.safetensors").keys()
        again = AutoModelForImageTextToText.from_pretrained(published, dtype=torch.float32)
        with torch.no_grad():
            assert float((again(input_ids=IDS).logits - logits).abs().max()) < 1e-3
        if name == "full":
            assert all(torch.equal(p, values[n]) for n, p in again.named_parameters())
        else:
            from peft import PeftModel

            unmerged = AutoModelForImageTextToText.from_pretrained(ASSET, dtype=torch.float32)
            adapted = PeftModel.from_pretrained(unmerged, published / "adapter").eval()
            with torch.no_grad():
                assert torch.equal(adapted(input_ids=IDS).logits, logits)
            assert (
                json.loads((published / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
                == "version:2"
            )
            merged = dict(adapted.merge_and_unload().named_parameters())
            assert all(torch.allclose(p, merged[n], atol=1e-6) for n, p in again.named_parameters())
        first, second = (
            json.loads((folder / "vlrm_reward.json").read_text())["canary"]
            for folder in (published, republished(again, processor, tmp_path / name / "again"))
        )
        assert first["yes"] == pytest.approx(second["yes"], abs=1e-5)


@pytest.mark.parametrize(
    ("least", "most", "files"),
    [(0, 4 << 30, [2, 1, 1]), (512 << 20, 4 << 30, [1, 0, 0]), (0, 100 << 10, [20, 20, 20])],
    ids=["a share each and a rest", "too small to split", "several each"],
)
def test_weights_are_split_such_that_all_ranks_write(
    least: int, most: int, files: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has a rank's share of the weights, within limits; all files together hold the model."""
    monkeypatch.setattr(weight_writing, "LEAST_BYTES", least)
    monkeypatch.setattr(weight_writing, "MOST_BYTES", most)
    model = reference()
    for rank in range(3):
        (tmp_path / str(rank)).mkdir()
        weight_writing.write_weights(model, tmp_path / str(rank), torch.float32, None, rank, 3)
    written = [sorted((tmp_path / str(rank)).glob("*.safetensors")) for rank in range(3)]
    found = {key: value for paths in written for path in paths for key, value in load_file(path).items()}
    expected = load_file(f"{ASSET}/model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [len(paths) for paths in written] == files


def test_trained_weights_are_rounded_such_that_small_changes_are_kept_on_average(tmp_path: Path) -> None:
    model = reference().bfloat16().float()
    model.get_input_embeddings().weight.requires_grad_(requires_grad=False)  # frozen

    def written(version: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
        weight_writing.write_weights(model, tmp_path, dtype, None, 0, 1, version)
        return {name: value.float() for name, value in load_file(tmp_path / "model.safetensors").items()}

    before = written(0, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 2**-11  # an eighth to a quarter of the distance to the next number
    means = {name: torch.zeros_like(value) for name, value in before.items()}
    for version in range(32):
        for name, value in written(version).items():
            means[name] += value / 32
    kept = {n: float((means[n] / b - 1).mean()) * 2**11 for n, b in before.items() if b.numel() > 1000 and b.all()}
    frozen = kept.pop(next(name for name in kept if name.endswith("embed_tokens.weight")))
    assert frozen == 0.0  # rounded to nearest
    assert len(kept) > 20
    assert all(0.9 < share < 1.1 for share in kept.values())
    first, again, other = written(1), written(1), written(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def republished(model: PreTrainedModel, processor: Any, folder: Path) -> Path:
    write_folder(model.eval(), processor, folder, "compact", {})
    return folder


def test_an_unsharded_model_is_published_as_transformers_saves_it(tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(ASSET)
    model = AutoModelForImageTextToText.from_pretrained(ASSET, dtype=torch.float32).to(torch.bfloat16)
    published = republished(model, processor, tmp_path / "ours")
    card = json.loads((published / "vlrm_reward.json").read_text())
    assert tuple(card["control_tokens"]) == PlainText.of_processor(processor).tokens != ()
    model.save_pretrained(tmp_path / "theirs")
    for name in ("config.json", "generation_config.json"):
        first, second = (json.loads((folder / name).read_text()) for folder in (published, tmp_path / "theirs"))
        for part in ("text_config", "vision_config") if name == "config.json" else ():
            assert first[part].pop("dtype") == "bfloat16"
            second[part].pop("dtype")  # of the time it was loaded
        assert first == second
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_sampling_parameters_of_the_base_model_are_published_as_they_are(tmp_path: Path) -> None:
    """Also without `do_sample`, with which transformers reads them and refuses to save them."""
    base = Path(shutil.copytree(ASSET, tmp_path / "base"))
    given = {"temperature": 0.9, "top_p": 0.6, "max_length": 4096}
    (base / "generation_config.json").write_text(json.dumps(given))
    model = meta_model(str(base), Train(), CPU)
    load_weights(model, str(base), CPU, seed=0)
    published = republished(model, AutoProcessor.from_pretrained(ASSET), tmp_path / "published")
    written = json.loads((published / "generation_config.json").read_text())
    assert {name: written.get(name) for name in (*given, "do_sample")} == {**given, "do_sample": None}


BROKEN = {
    "pickled weights only": (["model.safetensors"], {}, r"has no model\.safetensors .*pickled weights are not loaded"),
    "missing shard": ([], {"visual.merger.ln_q.weight": "model-00002-of-00002.safetensors"},
                      r"lacks model-00002-of-00002\.safetensors"),
    "missing tensor": ([], {"visual.merger.ln_q.weight": "model.safetensors"}, r"lacks the tensor \S+ of its Qwen2_5_VL"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    removed, weight_map, message = BROKEN[case]
    folder = Path(shutil.copytree(ASSET, tmp_path / "vlm"))
    for name in removed:
        (folder / name).rename(folder / "pytorch_model.bin")
    if weight_map:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=message) as error:
        load_weights(meta_model(str(folder), Train(), CPU), str(folder), CPU, 0)
    assert "\n" not in str(error.value)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ASSET, tmp_path / "vlm"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"model.norm.weight": torch.ones(64)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"model\.norm\.weight .* has shape \[64\], and config\.json asks for \[128\]"):
        load_weights(meta_model(str(folder), Train(), CPU), str(folder), CPU, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.lora.rank=4", "train.lora.targets=.*nowhere"], "matches no module of .* such as model"),
        (["train.lora.rank=4", "train.lora.targets=.*input_layernorm"], "no module|not a linear layer"),
        (["train.freeze=[language]", "train.lora.rank=4"], "matches no module of .* that is trained"),
    ],
)
def test_adapters_that_fit_nowhere_are_refused_before_the_start(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_inputs(with_overrides(load(None), settings))
    assert "\n" not in str(error.value)


def test_a_model_with_everything_frozen_is_refused() -> None:
    with pytest.raises(UserError, match="leaves nothing to train"):
        meta_model(ASSET, Train(freeze=("vision", "language")), CPU)
