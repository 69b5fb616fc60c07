"""Configuration: defaults, overrides, and error messages."""

import re
from pathlib import Path

import pytest

from vlrm_ray import config, config_loading
from vlrm_ray.config_sections import ExpertPool, Pool
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import resource_plan

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
REPORTED = Path(__file__).parents[1] / "data" / "cases" / "09" / "values.txt"
"""Overrides that users have reported; each text must be taken as it stands."""


@pytest.mark.parametrize("name", ["scenes.yaml", "qwen2_5_vl_7b.yaml", "photos.yaml", "study.yaml"])
def test_shipped_configurations_load(name: str) -> None:
    assert config.load(CONFIGS / name).name == name.removesuffix(".yaml")


def test_the_demo_configuration_is_the_default_but_for_five_keys() -> None:
    changes = ["prompts.recolor=0.5", "selection.checked=true", "prompts.per_round=[80,160,320]"]
    changes += ["train.initial=base", "train.replay=1000"]
    assert config.load(CONFIGS / "scenes.yaml") == config.load(None, changes)


def test_dotted_overrides_win() -> None:
    assert config.load(CONFIGS / "scenes.yaml", ["train.lr=1e-4", "rounds=1"]).train.lr == 1e-4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("rounds=many", "valid integer"),
        ("train.warmup_ratio=1", "less than 1"),
        ("experts.detector.pool.min=9", "larger than max"),
        ("rounds", "key=value"),
        (
            "train.gpus=2",
            "train.gpus: a training worker uses one GPU: set train.gpus=1 and train.workers to the number",
        ),
        ("name=../x", "letters, digits"),
        (
            "rounds=[1",
            "rounds: '[1' is not readable YAML: did not find expected ',' or ']' in line 2; correct the value",
        ),
        ("rounds=@x", "rounds: '@x' is not readable YAML"),
        ("rounds=%d", "rounds: '%d' is not readable YAML"),
        ("train=[", "train: '[' is not readable YAML"),
        ("rounds=${nope}", "Interpolation key 'nope' not found"),
        ("rounds=${rounds}", "Recursive interpolation"),
        ("rounds=2024-13-45", "valid integer"),
        ("prompts={question: Yes}", "put it in quotes"),
        ("prompts.per_round=0", "prompts.per_round: expected an integer of 1 or more, or a list of such, got 0"),
        ("prompts.per_round=[]", "prompts.per_round: expected an integer of 1 or more, or a list of such, got []"),
        ("prompts.per_round=[8, 0]", "prompts.per_round.1: Input should be greater than 0, got 0"),
        ("prompts.question.x=1", "valid string"),
        ("a\nb=1", "unknown key"),
        ("=x", "unknown key"),
        ("prompts.question=\udcff", "not valid text"),
        ("prompts.source=a\0b", "not valid text"),
    ],
)
def test_mistakes_are_reported_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.freeze=vision", "train.freeze: expected a list, such as [vision], got 'vision'"),
        ("train.freeze=5", "train.freeze: expected a list, such as [vision], got 5"),
        ("trackers=wandb", "trackers: expected a list, such as [wandb], got 'wandb'"),
        (
            "experts.detector.classes=dog,cat",
            "experts.detector.classes: expected a list, such as [dog, cat], got 'dog,cat'",
        ),
        (
            "prompts.allow_hosts=example.org",
            "prompts.allow_hosts: expected a list, such as [example.org], got 'example.org'",
        ),
        (
            "evaluation.benchmarks=pope",
            "evaluation.benchmarks: expected a list, such as [{name: ..., data: ...}], got 'pope'",
        ),
        (
            "evaluation.benchmarks=[pope]",
            "evaluation.benchmarks.0: expected a mapping, such as {name: ..., data: ...}, got 'pope'",
        ),
        ("train.lora=64", "train.lora is a section, not 64; set its keys, such as train.lora.rank=..."),
        ("train=5", "train is a section, not 5; set its keys, such as train.workers=..."),
        ("train=", "train is a section, without keys; delete it or set its keys, such as train.workers=..."),
        ("cluster.stages=2", "cluster.stages is a section, not 2; set its keys, such as cluster.stages.ingest.min=..."),
        (
            "name=a/b",
            "name: expected letters, digits, '.', '_' and '-', beginning with a letter or digit, got 'a/b'",
        ),
        ("cluster.labels=5", "cluster.labels: expected a mapping, such as {generate: {NAME: ...}}, got 5"),
        ("cluster.labels={train: 5}", "cluster.labels.train: expected a mapping, such as {NAME: ...}, got 5"),
    ],
)
def test_what_is_expected_is_said_in_the_words_of_yaml(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, [override])
    assert str(caught.value) == f"the command line: {message}"


def test_a_section_of_a_file_that_is_empty_is_explained(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: mine\ntrain:\n")
    with pytest.raises(UserError, match=r"c\.yaml: train is a section, without keys; .* such as train\.workers$"):
        config.load(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("train.learning_rate", "did you mean 'train.lr'?"),
        ("training.learning-rate", "did you mean 'train.lr'?"),
        ("lr", "did you mean 'train.lr'?"),
        ("epochs", "did you mean 'train.epochs'?"),
        ("model", "did you mean 'policy.model', 'experts.detector.model' or 'critic.model'?"),
        ("detector.model", "did you mean 'experts.detector.model'?"),
        ("police.model", "did you mean 'policy.model'?"),
        ("train.rank", "did you mean 'train.lora.rank'?"),
        ("lora.rank", "did you mean 'train.lora.rank'?"),
        ("lora", "did you mean 'train.lora'?"),
        ("prompt", "did you mean 'prompts'?"),
        ("prompt.source", "did you mean 'prompts.source'?"),
        ("trian.epochs", "did you mean 'train.epochs'?"),
        ("experts.detector.modell", "did you mean 'experts.detector.model'?"),
        ("critic.max_new_tokens", "did you mean 'critic.max_tokens'?"),
        (
            "tensor_parallel_size",
            "did you mean 'policy.engine.tensor_parallel' or 'critic.engine.tensor_parallel'?",
        ),
        (
            "per_device_train_batch_size",
            "did you mean 'train.batch'? (it counts the examples of all workers together)",
        ),
        ("cpus", "--dry-run lists all keys"),
        ("train.beta", "--dry-run lists all keys"),
    ],
)
def test_a_key_that_does_not_exist_is_answered_by_those_that_may_be_meant(key: str, suggestion: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(None, [f"{key}=1"])
    assert str(caught.value) == f"unknown key {key!r} in the command line; {suggestion}"


def test_a_section_of_a_file_that_does_not_exist_is_answered_by_the_one_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("prompt:\n  source: photos\n")
    with pytest.raises(UserError, match=r"unknown key 'prompt' in .*; did you mean 'prompts'\?$"):
        config.load(tmp_path / "c.yaml")


def test_keys_of_other_programs_are_answered_by_keys_that_exist() -> None:
    named = {key for keys in config_loading.KEYS_ELSEWHERE.values() for key in keys}
    assert named <= set(config.keys())
    assert config_loading.DIFFERENCES.keys() <= config_loading.KEYS_ELSEWHERE.keys()


def value_of(settings: config.Config, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


TEXTS = [
    "", "=", "a=b", " leading and trailing ", "null", "~", "1e3", "007", "a\nb", "{a: b}", "!!python/object:x", "&a b",
    "|", ">", "`x`", "#x", "x: #y", "- a", "\t", "???", "${oc.env:HOME}", "a\\${b}", "${", "\ue0005\ue001", "'", "% }",
]  # fmt: skip


@pytest.mark.parametrize("override", [*REPORTED.read_text().splitlines(), *(f"prompts.question={t}" for t in TEXTS)])
def test_an_override_of_a_text_key_is_taken_as_it_stands(override: str) -> None:
    key, _, text = override.partition("=")
    settings = config.load(None, [override])
    assert value_of(settings, key) == text
    assert config.with_overrides(settings, ["rounds=1"]) == settings.model_copy(update={"rounds": 1})
    assert value_of(config.with_overrides(config.Config(), [override]), key) == text


def test_overrides_of_other_keys_are_yaml() -> None:
    overrides = ["experts.detector.classes=[a, 'b c']", "experts.reader.enabled=no", "train.lr=1e-4", "rounds=2 # two"]
    settings = config.load(None, overrides)
    assert settings.experts.detector.classes == ("a", "b c")
    assert (settings.experts.reader.enabled, settings.train.lr, settings.rounds) == (False, 1e-4, 2)


def test_interpolations_in_a_file_see_the_overrides(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: a\nfolder: runs/${name}\nrounds: 2\ntrain: {epochs: '${rounds}'}\n")
    settings = config.load(tmp_path / "c.yaml", ["name=b-1", "rounds=3"])
    assert (settings.folder, settings.train.epochs) == ("runs/b-1", 3)


@pytest.mark.parametrize(
    ("value", "by_round", "stored"),
    [("8", [8, 8, 8, 8], 8), ("1e3", [1000] * 4, 1000), ("[8, 16, 4]", [8, 16, 4, 4], [8, 16, 4])],
)
def test_rounds_have_one_number_of_prompts_or_each_its_own(value: str, by_round: list[int], stored: object) -> None:
    settings = config.load(None, [f"prompts.per_round={value}"])
    assert [settings.prompts.in_round(number) for number in (1, 2, 3, 4)] == by_round
    assert settings.prompts.until_round(4) == sum(by_round)
    assert settings.model_dump(mode="json")["prompts"]["per_round"] == stored
    assert config.with_overrides(settings, []) == settings


def test_later_overrides_win() -> None:
    assert config.load(None, ["name=a", "rounds=2", "name=b", "rounds=1"]).name == "b"


@pytest.mark.parametrize(("old", "new"), config_loading.RENAMED_KEYS.items())
def test_a_renamed_key_is_refused_with_its_new_name(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "old.yaml").write_text(f"experts: {{reader: {{{old.rpartition('.')[2]}: models/ocr}}}}\n")
    for path, overrides in ((tmp_path / "old.yaml", []), (None, [f"{old}=models/ocr"])):
        with pytest.raises(UserError, match=rf"{re.escape(old)} was renamed to {re.escape(new)}$"):
            config.load(path, overrides)
    assert new in set(config.keys())


@pytest.mark.parametrize("key", config_loading.REMOVED_KEYS)
def test_a_removed_key_is_refused_with_the_reason(tmp_path: Path, key: str) -> None:
    (tmp_path / "old.yaml").write_text(key.replace(".", ": {") + ": 0" + "}" * key.count(".") + "\n")
    for path, overrides in ((tmp_path / "old.yaml", []), (None, [f"{key}=0"])):
        with pytest.raises(
            UserError, match=rf"{re.escape(key)} was removed: {re.escape(config_loading.REMOVED_KEYS[key])}$"
        ):
            config.load(path, overrides)
    assert key not in set(config.keys())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rounds: [1", "in line 2"),
        (b"rounds: 1\nrounds: 2\n", "in line 2"),
        (b"- a\n", "must contain keys and values"),
        (b"name: \xff\n", "is not readable YAML"),
        (b'prompts: {question: "\\0"}\n', "prompts.question: not valid text"),
        (b"prompts: {question: Yes}\n", "put it in quotes"),
        (b"folder: ${nowhere}\n", "Interpolation key 'nowhere' not found"),
    ],
)
def test_mistakes_in_a_file_are_reported_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        config.load(tmp_path / "c.yaml")
    assert message in str(caught.value)
    assert str(tmp_path / "c.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_has_a_docstring() -> None:
    def fields(model: type[config.Section]) -> None:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            if isinstance(info.annotation, type) and issubclass(info.annotation, config.Section):
                fields(info.annotation)

    fields(config.Config)


def test_a_key_of_a_section_leaves_the_other_defaults_of_the_section() -> None:
    engine = config.load(None, ["critic.engine.cpus=1"]).critic.engine
    assert (engine.cpus, engine.actors) == (1, config.Config().critic.engine.actors)


def test_there_are_few_keys() -> None:
    repeated = len(config.keys(config.Engine)) + len(config.keys(ExpertPool)) + 5 * len(config.keys(Pool))
    assert len(config.keys()) - repeated <= 123  # one of two engines and one of seven pools count


@pytest.mark.parametrize(
    ("overrides", "has_actor"),
    [
        (["experts.extractor=rule"], False),
        (["experts.extractor=parse"], False),
        (["experts.extractor=llm"], True),
        (["experts.extractor=llm", "experts.extractor_model="], False),  # the policy extracts the claims
        (["experts.extractor=llm", "experts.extractor_model=", "policy.samples=0"], True),  # there is no policy
    ],
)
def test_an_llm_extractor_has_an_actor_unless_the_policy_extracts_the_claims(
    overrides: list[str], has_actor: bool
) -> None:
    requests = resource_plan.resource_requests(config.load(None, overrides))
    assert ("claim extractor" in [request.role for request in requests]) is has_actor


def test_a_cluster_that_is_too_small_is_refused() -> None:
    with pytest.raises(UserError, match="GPU"):
        resource_plan.check(config.load(CONFIGS / "qwen2_5_vl_7b.yaml"), {"CPU": 64, "GPU": 2}, "the cluster")
    resource_plan.check(config.Config(), {"CPU": 2}, "this machine")


def test_more_than_one_gpu_is_a_whole_number_as_ray_wants_it() -> None:
    with pytest.raises(UserError, match=r"^each critique writer asks for 1\.5 GPU; .* critic\.engine\.tensor_parallel"):
        resource_plan.check(
            config.load(None, ["critic.engine.gpus=0.5", "critic.engine.tensor_parallel=3"]),
            {"CPU": 99, "GPU": 99},
            "it",
        )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.epochs=3", "unknown key 'trian.epochs' in the command line; did you mean 'train.epochs'?"),
        ("train.epochs=many", "the command line: train.epochs: Input should be a valid integer"),
        ("experts.detector={modell: x}", "unknown key 'experts.detector.modell' in the command line; did you mean"),
        ("qqq=1", "unknown key 'qqq' in the command line; --dry-run lists all keys"),
    ],
)
def test_a_wrong_override_is_not_blamed_on_the_file(override: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        config.load(CONFIGS / "scenes.yaml", [override])
    assert str(raised.value).startswith(message)
