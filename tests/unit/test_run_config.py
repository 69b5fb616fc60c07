"""A run is bound to what determines its results, not to where it works."""

import re
from pathlib import Path

import pytest

from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.run_config import RESOURCE_KEYS, RESOURCE_PATHS, SESSION_KEYS, bind_config
from vlrm_ray.store.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A run with a result."""
    ledger = Ledger(str(tmp_path))
    bind_config(load(None, []), ledger)
    ledger.finish(0, "evaluate", {})
    return ledger


@pytest.mark.parametrize(
    "override",
    [
        "rounds=9", "cluster.cpus=64", "cluster.address=10.0.0.1:6379", "cluster.stages.verify.max=8",
        "policy.engine.actors=16", "policy.engine.cpus=8", "policy.engine.gpus=1", "critic.engine.tensor_parallel=2",
        "train.workers=8", "train.gpus=1", "train.max_tokens=2048", "train.checkpointing=blocks", "train.loader_workers=1",
        "train.packing=false", "train.shared_prefix=false",
        "train.step_timeout=900", "experts.detector.pool.max=4", "quarantine_limit=0.5",
    ],
)  # fmt: skip
def test_a_run_may_resume_with_other_resources(override: str, ledger: Ledger) -> None:
    bind_config(load(None, [override]), ledger)


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("seed=5", r"seed: 0 -> 5"),
        ("policy.max_tokens=9", r"policy\.max_tokens: "),
        ("policy.samples=9", r"policy\.samples: 4 -> 9"),
        ("critic.engine.dtype=bfloat16", r"critic\.engine\.dtype: float32 -> bfloat16"),
        ("train.lr=5e-5", r"train\.lr: "),
    ],
)
def test_what_determines_its_results_is_refused(override: str, difference: str, ledger: Ledger) -> None:
    with pytest.raises(UserError, match=difference):
        bind_config(load(None, [override]), ledger)


def test_keys_that_are_younger_than_the_run_count_as_their_defaults(ledger: Ledger) -> None:
    stored = ledger.get_json("config.json")
    del stored["prompts"]["max_pixels"], stored["quarantine_limit"], stored["policy"]["engine"]["reproducible"]
    ledger.put_json("config.json", stored)
    bind_config(load(None, []), ledger)
    with pytest.raises(UserError, match=r"prompts\.max_pixels"):
        bind_config(load(None, ["prompts.max_pixels=500000"]), ledger)


def test_a_run_without_any_result_may_start_again_with_another_configuration(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    bind_config(load(None, ["seed=5"]), ledger)
    bind_config(load(None, []), ledger)
    ledger.finish(0, "evaluate", {})
    with pytest.raises(UserError, match=r"seed: 0 -> 5"):
        bind_config(load(None, ["seed=5"]), ledger)


def test_the_page_lists_all_that_may_change() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    text = page.partition("When a run\nresumes, these may differ")[2].partition("Shipped files")[0]
    assert set(re.findall(r"`([\w.]+)`", text)) == {*SESSION_KEYS, *RESOURCE_KEYS, *RESOURCE_PATHS}
