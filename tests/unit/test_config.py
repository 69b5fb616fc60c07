"""Configuration: defaults, overrides, and error messages."""

import re
from pathlib import Path

import pytest

from vlrm_ray import config
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import resource_plan

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


@pytest.mark.parametrize("name", ["scenes.yaml", "qwen2_5_vl_7b.yaml"])
def test_shipped_configurations_load(name: str) -> None:
    assert config.load(CONFIGS / name).name == name.removesuffix(".yaml")


def test_the_demo_configuration_is_the_default() -> None:
    assert config.load(CONFIGS / "scenes.yaml") == config.Config()


def test_dotted_overrides_win() -> None:
    assert config.load(CONFIGS / "scenes.yaml", ["train.lr=1e-4", "rounds=1"]).train.lr == 1e-4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("rounds=many", "valid integer"),
        ("train.batch=33", "not a multiple of workers"),
        ("experts.detector.pool.min=9", "larger than max"),
        ("rounds", "key=value"),
        ("name=../x", "pattern"),
    ],
)
def test_mistakes_are_reported_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("old", "new"), config.RENAMED_KEYS.items())
def test_a_renamed_key_is_refused_with_its_new_name(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "old.yaml").write_text(f"experts: {{reader: {{{old.rpartition('.')[2]}: models/ocr}}}}\n")
    for path, overrides in ((tmp_path / "old.yaml", []), (None, [f"{old}=models/ocr"])):
        with pytest.raises(UserError, match=rf"{re.escape(old)} was renamed to {re.escape(new)}$"):
            config.load(path, overrides)
    assert new in set(config.keys())


def test_every_field_has_a_docstring() -> None:
    def fields(model: type[config.Section]) -> None:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            if isinstance(info.annotation, type) and issubclass(info.annotation, config.Section):
                fields(info.annotation)

    fields(config.Config)


def test_there_are_few_keys() -> None:
    repeated = len(config.keys(config.Engine)) + len(config.keys(config.Pool))  # two engines and two pools
    assert len(config.keys()) - repeated <= 80


def test_a_cluster_that_is_too_small_is_refused() -> None:
    with pytest.raises(UserError, match="GPU"):
        resource_plan.check(config.load(CONFIGS / "qwen2_5_vl_7b.yaml"), {"CPU": 64, "GPU": 2}, "the cluster")
    resource_plan.check(config.Config(), {"CPU": 2}, "this machine")
