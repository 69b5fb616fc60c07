"""A run is bound to what determines its results, not to where it works."""

import re
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.prompts import read_source
from vlrm_ray.pipeline.run_config import RESOURCE_KEYS, RESOURCE_PATHS, SESSION_KEYS, SOURCE, bind_config, bind_source
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


def test_passwords_of_uris_are_not_stored_and_may_change(tmp_path: Path) -> None:
    def started_with(password: str, bucket: str = "photos") -> None:
        bind_config(load(None, [f"prompts.source=s3://me:{password}@{bucket}/coco"]), ledger)

    ledger = Ledger(str(tmp_path / "run"))
    started_with("secret")
    assert b"secret" not in (tmp_path / "run" / "config.json").read_bytes()
    plain = (tmp_path / "run" / "config.json").read_text().replace("***", "me:secret")  # as earlier versions wrote it
    ledger.put("config.json", plain.encode())
    ledger.finish(1, "generate", {})
    started_with("rotated")
    assert b"secret" not in (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"prompts\.source: s3://\*\*\*@photos/coco -> s3://\*\*\*@other/coco"):
        started_with("rotated", "other")


def test_keys_that_are_younger_than_the_run_count_as_their_defaults(ledger: Ledger) -> None:
    stored = ledger.get_json("config.json")
    del stored["prompts"]["max_pixels"], stored["quarantine_limit"], stored["policy"]["engine"]["reproducible"]
    ledger.put_json("config.json", stored)
    bind_config(load(None, []), ledger)
    with pytest.raises(UserError, match=r"prompts\.max_pixels"):
        bind_config(load(None, ["prompts.max_pixels=500000"]), ledger)


def test_a_run_from_before_a_key_whose_default_does_something_else_goes_on_as_it_began(ledger: Ledger) -> None:
    stored = ledger.get_json("config.json")
    del stored["selection"]["sides"]
    ledger.put_json("config.json", stored)
    bind_config(load(None, ["selection.sides=both"]), ledger)
    with pytest.raises(UserError, match=r"selection\.sides: both -> either"):
        bind_config(load(None, []), ledger)


def test_a_run_from_before_a_key_was_removed_goes_on_if_it_did_what_runs_do_now(ledger: Ledger) -> None:
    stored = ledger.get_json("config.json")
    stored["train"]["balance"] = False
    ledger.put_json("config.json", stored)
    bind_config(load(None, []), ledger)
    stored["train"]["balance"] = True
    ledger.put_json("config.json", stored)
    with pytest.raises(UserError, match=r"train\.balance: True -> False\); resume it with the code") as caught:
        bind_config(load(None, ["seed=5"]), ledger)
    assert "\n" not in str(caught.value)


def test_a_run_without_any_result_may_start_again_with_another_configuration(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    bind_config(load(None, ["seed=5"]), ledger)
    bind_config(load(None, []), ledger)
    ledger.finish(0, "evaluate", {})
    with pytest.raises(UserError, match=r"seed: 0 -> 5"):
        bind_config(load(None, ["seed=5"]), ledger)


def test_the_size_of_rounds_that_have_not_begun_may_change(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    bind_config(load(None, ["prompts.per_round=[8,16]"]), ledger)
    ledger.finish(0, "evaluate", {})
    ledger.finish(1, "generate", {})
    for size in ("8", "[8, 32, 64]"):
        bind_config(load(None, [f"prompts.per_round={size}"]), ledger)
    ledger.finish(2, "generate", {})
    bind_config(load(None, ["prompts.per_round=[8,32]"]), ledger)
    with pytest.raises(UserError, match=r"prompts\.per_round: \[8, 32\] -> \[8, 16\]"):
        bind_config(load(None, ["prompts.per_round=[8,16]"]), ledger)


def test_the_page_lists_all_that_may_change() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    text = page.partition("When a run\nresumes, these may differ")[2].partition("Shipped files")[0]
    assert set(re.findall(r"`([\w.]+)`", text)) == {*SESSION_KEYS, *RESOURCE_KEYS, *RESOURCE_PATHS}


# --- the source of the prompts ------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def bind(source: Path, ledger: Ledger) -> None:
    """Bind as another process would, which has not read the source before."""
    read_source.cache_clear()
    bind_source(load(None, [f"prompts.source={source}", "prompts.question=What is it?", "name=mine"]), ledger)


def test_a_run_does_not_resume_with_another_source(photos: Path, ledger: Ledger) -> None:
    bind(photos, ledger)
    bind(photos, ledger)
    shutil.copy(photos / "a.png", photos / "aa.png")
    with pytest.raises(
        UserError, match=r"changed since run mine was started: 3 prompts then, 4 now; restore it, or"
    ) as caught:
        bind(photos, ledger)
    assert "\n" not in str(caught.value)
    (photos / "c.png").unlink()
    with pytest.raises(UserError, match="3 prompts then, as many but others now"):
        bind(photos, ledger)
    (photos / "aa.png").rename(photos / "c.png")
    bind(photos, ledger)


def test_a_source_may_be_moved(photos: Path, ledger: Ledger) -> None:
    bind(photos, ledger)
    bind(Path(photos.rename(photos.parent / "elsewhere")), ledger)


def test_a_run_without_any_result_takes_the_source_as_it_is_now(photos: Path, tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "run"))
    bind(photos, ledger)
    (photos / "c.png").unlink()
    bind(photos, ledger)
    ledger.finish(0, "evaluate", {})
    bind(photos, ledger)


def test_rows_are_bound_with_their_order_and_images(tmp_path: Path, ledger: Ledger) -> None:
    rows = [f'{{"image": "s3://bucket/{i}.png", "question": "{i}?"}}\n' for i in range(5000)]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(rows))
    bind(file, ledger)
    for changed in ([*rows[1:], rows[0]], [rows[0].replace("/0", "/7"), *rows[1:]], rows[:-1]):
        file.write_text("".join(changed))
        with pytest.raises(UserError, match="has changed since"):
            bind(file, ledger)


def test_the_hash_of_many_prompts_takes_little_time(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("".join(f'{{"image": "/d/{i}.png", "question": "?"}}\n' for i in range(20000)))
    source = read_source(str(tmp_path / "p.jsonl"), "")
    start = time.process_time()
    assert len(source.sha256) == 64
    assert time.process_time() - start < 5


def test_a_round_that_an_earlier_version_began_in_another_order_is_not_mixed_with_this_one(
    photos: Path, ledger: Ledger
) -> None:
    bind(photos, ledger)
    order = ledger.get_json(SOURCE)["order"]  # type: ignore[index]
    ledger.put_json(SOURCE, {key: value for key, value in ledger.get_json(SOURCE).items() if key != "order"})  # type: ignore[union-attr]
    ledger.put_part(2, 0, {}, {})
    with pytest.raises(
        UserError, match=r"round 2 of run mine was begun by a version .*; finish .* or delete .*round-0002"
    ):
        bind(photos, ledger)
    ledger.finish(2, "select", {})
    bind(photos, ledger)
    assert ledger.get_json(SOURCE)["order"] == order  # type: ignore[index]
