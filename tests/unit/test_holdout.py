"""Images that are held out of training: split by content, stable, and counted."""

from pathlib import Path

import pytest

from tests.unit.benchmark_files import png
from tests.unit.test_given_responses import FORMATS, given
from tests.unit.test_refused_requests import PickyEngine
from tests.unit.test_stages import Board, FakeActor, counts, critique_stage, paired_rows, pool, run
from vlrm_ray.config import Config, load
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.holdout import HELD_OUT, is_held_out
from vlrm_ray.pipeline.row_accounting import why_nothing_is_trained
from vlrm_ray.pipeline.stages import Generate, Ingest, prompt_table
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.rows import from_table, with_columns
from vlrm_ray.types import PromptRef

HASHES = [sha256_of(str(i).encode()) for i in range(2000)]


def config(share: float, seed: int = 0, source: str = "photos") -> Config:
    return load(None, [f"evaluation.holdout={share}", f"seed={seed}", f"prompts.source={source}", "critic.k=1"])


def held_out(settings: Config) -> set[str]:
    return {sha256 for sha256 in HASHES if is_held_out(settings, sha256)}


def test_the_share_is_met_and_depends_on_the_seed() -> None:
    assert 0.08 < len(held_out(config(0.1))) / len(HASHES) < 0.12
    assert held_out(config(0.1)) != held_out(config(0.1, seed=1))
    assert held_out(config(0)) == set()


def test_a_larger_share_holds_out_the_same_images_and_more() -> None:
    assert held_out(config(0.1)) < held_out(config(0.3))


def test_scenes_are_not_split() -> None:
    assert held_out(config(0.5, source="scenes")) == set()


def test_an_image_under_another_name_is_on_the_same_side(tmp_path: Path) -> None:
    first = given(tmp_path)
    (tmp_path / "b.png").write_bytes((FORMATS / "images" / "first.jpg").read_bytes())
    table = prompt_table(0, [first, PromptRef(str(tmp_path / "b.png"), "Why?")])
    a, b = from_table(Ingest(1, config(0.1), Board(), Ledger(str(tmp_path)))(table))  # type: ignore[arg-type]
    assert a.prompt.image != b.prompt.image
    for seed in range(20):
        assert is_held_out(config(0.5, seed), a.prompt.sha256) == is_held_out(config(0.5, seed), b.prompt.sha256)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_held_out_pairs_get_no_critique_and_are_counted(share: float) -> None:
    table = paired_rows("It is blue.", "It is LONG.", "It is blue.")
    rows = from_table(table)
    settings = config(share)
    out = next(sha256 for sha256 in HASHES if is_held_out(config(0.9), sha256))
    inside = next(sha256 for sha256 in HASHES if not is_held_out(config(0.9), sha256))
    for row, sha256 in zip(rows, (out, inside, inside), strict=True):
        object.__setattr__(row.prompt, "sha256", sha256)
    done = run(critique_stage(settings, FakeActor(PickyEngine())), with_columns(table, rows, "prompt"))
    found = counts(done)
    assert found["select"]["in"] == 3
    if share:
        assert done[0].rejected == {"pairp0": HELD_OUT}
        assert done[0].pairs[0].chosen_critiques == ()
        assert (found["select"]["dropped"][HELD_OUT], found["critique"]["in"]) == (1, 4)
    else:
        assert found["critique"]["in"] == 6
        assert HELD_OUT not in found["select"]["dropped"]


@pytest.mark.parametrize("round_", [1, 2])
def test_only_the_first_round_makes_pairs_of_held_out_images(round_: int, tmp_path: Path) -> None:
    for name, color in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        (tmp_path / f"{name}.png").write_bytes(png(color))
    refs = [PromptRef(str(tmp_path / f"{name}.png"), "What?") for name in "ab"]
    sides: list[set[bool]] = []
    for seed in range(8):
        settings = config(0.5, seed)
        table = Ingest(round_, settings, Board(), Ledger(str(tmp_path / "run")))(prompt_table(0, refs))  # type: ignore[arg-type]
        rows = run(Generate(settings, pool(FakeActor(PickyEngine())), None, ""), table)
        out = [is_held_out(settings, row.prompt.sha256) for row in rows]
        sides.append(set(out))
        assert [not row.candidates for row in rows] == [is_out and round_ > 1 for is_out in out]
        skipped = [row for row in rows if row.unusable]
        assert all((row.asked, row.unusable) == (1, {HELD_OUT: 1}) for row in skipped)  # counted once, as dropped
        assert len(skipped) == (sum(out) if round_ > 1 else 0)
    assert {True, False} in sides


def test_a_round_of_held_out_images_says_so() -> None:
    some = {"in": 2, "kept": 2, "dropped": {}, "quarantined": {}}
    results = dict.fromkeys(ROLLOUT_STAGES, some) | {
        "critique": {"in": 0, "kept": 0, "dropped": {}, "quarantined": {}},
        "select": {"in": 2, "kept": 0, "dropped": {HELD_OUT: 2}, "quarantined": {}},
    }
    assert "no pair was selected (held_out 2)" in why_nothing_is_trained(results)
    assert "lower evaluation.holdout" in why_nothing_is_trained(results)
