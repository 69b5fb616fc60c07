"""One schema, defaults in one place, every mistake in one line."""

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
    ("override", "says"),
    [
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("rounds=many", "valid integer"),
        ("train.batch=33", "not a multiple of workers"),
        ("experts.detector.pool.min=9", "larger than max"),
        ("rounds", "key=value"),
        ("name=../x", "pattern"),
    ],
)
def test_mistakes_are_told_in_one_line(override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, [override])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_has_a_docstring() -> None:
    def fields(model: type[config.Section]) -> None:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            if isinstance(info.annotation, type) and issubclass(info.annotation, config.Section):
                fields(info.annotation)

    fields(config.Config)


def test_there_are_few_keys() -> None:
    twice = len(config.keys(config.Engine)) + len(config.keys(config.Pool))  # two engines and two pools are alike
    assert len(config.keys()) - twice <= 80


def test_a_cluster_that_is_too_small_is_refused() -> None:
    with pytest.raises(UserError, match="GPU"):
        resource_plan.check(config.load(CONFIGS / "qwen2_5_vl_7b.yaml"), {"CPU": 64, "GPU": 2}, "the cluster")
    resource_plan.check(config.Config(), {"CPU": 2}, "this machine")
