"""Work on the next round in the background, and the prepared parts that it leaves."""

import json
import threading
from pathlib import Path

import pytest

from vlrm_ray.config import load
from vlrm_ray.errors import RoundFailed, UserError
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.ahead import Ahead
from vlrm_ray.pipeline.part_stream import _AllRefused
from vlrm_ray.pipeline.quarantine import TooManyQuarantined
from vlrm_ray.pipeline.stages import CommitCandidates, ReadCandidates, Tally, part_table
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import Candidate, ImageCondition, Prompt

COLUMNS = ("part", "part_rows", "round", "prompt", "quarantined", "asked", "candidates")


def rows(part: int) -> list[Row]:
    candidate = Candidate("c", "There is a dog.", ImageCondition.FULL)
    return [
        Row(part, 2, Prompt("p", "a.png", "0", "Why?"), "", 2, 1, (candidate,)),
        Row(part, 2, Prompt("q", "b.png", "", "Why?"), "image_missing", 2),
    ]


def prepared(folder: Path, *parts: int) -> PreparedParts:
    found = PreparedParts(Ledger(str(folder)), 2)
    for part in parts:
        CommitCandidates(found)(to_table(rows(part), COLUMNS))
    return found


# --- prepared parts -----------------------------------------------------------------------------


def test_a_prepared_part_comes_back_with_the_same_columns(tmp_path: Path) -> None:
    found = prepared(tmp_path, 3)
    table = ReadCandidates(found)(part_table(3))
    assert table == to_table(rows(3), COLUMNS)
    assert from_table(table) == rows(3)


def test_its_tally_counts_the_quarantined_prompts(tmp_path: Path) -> None:
    found = PreparedParts(Ledger(str(tmp_path)), 2)
    (tally,) = Tally.of_table(CommitCandidates(found)(to_table(rows(0), COLUMNS)))
    assert (tally.part, tally.prompts, tally.quarantined) == (0, 2, {"image_missing": 1})
    assert tally.first_quarantined == "b.png, 'Why?': image_missing"


def test_a_part_that_is_not_whole_is_not_committed(tmp_path: Path) -> None:
    found = PreparedParts(Ledger(str(tmp_path)), 2)
    with pytest.raises(AssertionError, match="1 rows of the parts"):
        CommitCandidates(found)(to_table(rows(0)[:1], COLUMNS))
    assert found.numbers() == []


@pytest.mark.parametrize("position", [-1, 60])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, position: int) -> None:
    found = prepared(tmp_path, 0)
    file = tmp_path / "round-0002" / "prepared" / "part-00000.parquet"
    content = bytearray(file.read_bytes())
    content[position] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"part-00000\.parquet is damaged; delete it, then run the same command again"):
        found.get(0)


def test_they_are_deleted_together(tmp_path: Path) -> None:
    found = prepared(tmp_path, 0, 1)
    found.clear()
    assert found.numbers() == []


# --- the thread ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [UserError("the policy is gone"), KeyError("the policy is gone")])
def test_a_failure_is_logged_at_once_and_does_not_end_the_run(error: Exception) -> None:
    def fails() -> None:
        raise error

    lines: list[str] = []
    ahead = Ahead(lines.append)
    ahead.start(2, fails)
    ahead.wait()
    (line,) = lines
    assert line.startswith("round 2: gathering ahead has failed, so the round makes the rest itself: ")
    assert "the policy is gone" in line
    ahead.finish(1)
    ahead.finish(2)
    assert ahead.round == 2


@pytest.mark.parametrize("kind", [TooManyQuarantined, _AllRefused])
def test_what_would_fail_again_ends_the_run_before_its_round(kind: type[RoundFailed]) -> None:
    def fails() -> None:
        raise kind("300 of 400 prompts are quarantined")

    lines: list[str] = []
    ahead = Ahead(lines.append)
    ahead.start(2, fails)
    ahead.wait()
    assert lines == [
        "round 2: gathering ahead has failed, so the run ends before this round: 300 of 400 prompts are quarantined"
    ]
    ahead.finish(1)  # another round is not concerned
    with pytest.raises(kind, match="300 of 400"):
        ahead.finish(2)
    ahead.start(3, lambda: None)
    ahead.finish(3)


def test_what_the_end_of_the_run_breaks_off_is_no_failure() -> None:
    lines: list[str] = []
    ahead = Ahead(lines.append)

    def work() -> None:
        while not ahead.stopped:
            pass
        raise UserError("the engines are gone")

    ahead.start(2, work)
    ahead.close(60)
    assert not lines


def test_work_that_is_to_end_early_is_told_so() -> None:
    ahead, ended = Ahead(), threading.Event()

    def work() -> None:
        while not ahead.stopped:
            pass
        ended.set()

    ahead.start(2, work)
    ahead.close(60)
    assert ended.is_set()


# --- configuration ------------------------------------------------------------------------------


def test_the_plan_with_overlap_holds_engines_experts_and_training_at_the_same_time() -> None:
    alone, overlapped = (resource_plan.peak(load(None, [f"cluster.overlap={n}"])) for n in (0, 1))
    training = load(None, []).train
    assert overlapped[0] == pytest.approx(alone[0] + training.workers * training.cpus)


def test_engines_that_are_closed_during_training_cannot_work_ahead() -> None:
    with pytest.raises(UserError, match="overlap=1 needs placement=disaggregated"):
        load(None, ["cluster.overlap=1", "cluster.placement=phased"])


def test_overlap_may_change_between_the_sessions_of_a_run() -> None:
    exclude = {"cluster"}
    plain, ahead = (load(None, [f"cluster.overlap={n}"]).model_dump(mode="json", exclude=exclude) for n in (0, 1))
    assert json.dumps(plain) == json.dumps(ahead)
