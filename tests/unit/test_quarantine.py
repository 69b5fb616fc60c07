"""A run of which too many prompts or pairs cannot be used ends early, and can be repeated."""

from pathlib import Path

import pytest

from vlrm_ray.config import Config
from vlrm_ray.engines import REFUSED, TOO_LONG
from vlrm_ray.pipeline.quarantine import QuarantineLimit, TooManyQuarantined
from vlrm_ray.pipeline.stages import Commit, CommitCandidates, Tally
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts
from vlrm_ray.store.rows import Row, to_table
from vlrm_ray.types import Prompt


def rows(part: int, prompts: int, missing: int) -> list[Row]:
    return [
        Row(
            part,
            1,
            Prompt(f"{part}-{i}", f"{part}-{i}.png", "", "Why?"),
            "image_missing" if i < missing else "",
            prompts,
        )
        for i in range(prompts)
    ]


def commit(ledger: Ledger, part: int, prompts: int = 40, missing: int = 0) -> Tally:
    (tally,) = Tally.of_table(Commit(Config(), ledger)(to_table(rows(part, prompts, missing))))
    return tally


def prepare(ledger: Ledger, part: int, prompts: int = 40, missing: int = 0) -> Tally:
    columns = ("part", "part_rows", "round", "prompt", "quarantined", "asked", "candidates")
    prepared = PreparedParts(ledger, 1)
    (tally,) = Tally.of_table(CommitCandidates(prepared)(to_table(rows(part, prompts, missing), columns)))
    return tally


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path))


def test_above_the_limit_the_run_ends_and_says_why(ledger: Ledger) -> None:
    limit = QuarantineLimit(0.2, ledger, 1)
    limit.check(Tally(0, 40, {}))
    limit.check(Tally(1, 40, {"image_missing": 10, "question_missing": 2}, "a.png, 'Why?'"))
    with pytest.raises(TooManyQuarantined) as caught:
        limit.check(Tally(2, 40, {"image_missing": 20}, "b.png, 'Why?'"))
    message = str(caught.value)
    assert message.startswith(
        "round 1: 32 of 120 prompts are quarantined, more than quarantine_limit=0.2: image_missing 30,"
    )
    assert "(first: a.png, 'Why?')" in message
    assert "raise quarantine_limit" in message
    assert "\n" not in message


def test_the_affected_parts_are_made_again_also_those_that_were_committed_after_the_error(ledger: Ledger) -> None:
    limit = QuarantineLimit(0.2, ledger, 1)
    limit.check(commit(ledger, 0))
    with pytest.raises(TooManyQuarantined):
        limit.check(commit(ledger, 1, missing=30))
    commit(ledger, 2, missing=30)  # it was on its way when the error was raised
    commit(ledger, 3)
    limit.remove_parts()
    assert ledger.parts(1) == [0, 3]


def test_no_part_is_made_again_if_the_limit_is_not_exceeded(ledger: Ledger) -> None:
    commit(ledger, 0)
    commit(ledger, 1, missing=30)
    QuarantineLimit(0.5, ledger, 1).remove_parts()
    assert ledger.parts(1) == [0, 1]


def test_parts_of_earlier_sessions_count(ledger: Ledger) -> None:
    for part in range(9):
        commit(ledger, part)
    QuarantineLimit(0.2, ledger, 1).check(commit(ledger, 9, 64, 14))  # 14 of 424, but 14 of 64 in this session
    for part in range(10, 12):
        commit(ledger, part, missing=40)
    with pytest.raises(TooManyQuarantined, match="94 of 504 prompts are"):
        QuarantineLimit(0.1, ledger, 1).check(Tally(11, 40, {"image_missing": 40}))


def test_prepared_parts_count_once_also_when_they_are_finished(ledger: Ledger) -> None:
    prepare(ledger, 0, missing=8)
    prepare(ledger, 1)
    limit = QuarantineLimit(0.2, ledger, 1)
    assert (limit.prompts.total, dict(limit.prompts.reasons)) == (80, {"image_missing": 8})
    limit.check(commit(ledger, 0, missing=8))
    assert (limit.prompts.total, dict(limit.prompts.reasons)) == (80, {"image_missing": 8})
    limit.check(commit(ledger, 2, missing=12))
    with pytest.raises(TooManyQuarantined):
        limit.check(commit(ledger, 3, missing=13))
    limit.remove_parts()
    assert (ledger.parts(1), PreparedParts(ledger, 1).numbers()) == ([], [1])


def test_a_damaged_prepared_part_does_not_count(ledger: Ledger, tmp_path: Path) -> None:
    prepare(ledger, 0)
    (tmp_path / "round-0001" / "prepared" / "part-00000.parquet").write_bytes(b"PAR1")
    assert QuarantineLimit(0.2, ledger, 1).prompts.total == 0


def test_pairs_that_the_critics_refuse_count_by_themselves(ledger: Ledger) -> None:
    limit = QuarantineLimit(0.2, ledger, 1)
    limit.check(Tally(0, 40, {}, pairs=30))
    with pytest.raises(TooManyQuarantined) as caught:
        limit.check(Tally(1, 40, {}, pairs=30, quarantined_pairs={f"{REFUSED}: x": 13}))
    assert str(caught.value) == (
        f"round 1: 13 of 60 pairs are quarantined, more than quarantine_limit=0.2: {REFUSED}: x 13; check critic.model and "
        "critic.engine, or raise quarantine_limit"
    )


def test_parts_with_refused_pairs_are_made_again_from_their_prepared_candidates(ledger: Ledger) -> None:
    counts = {"generate": {"quarantined": {}}, "select": {"rows_in": 30, "quarantined": {}}}
    refused = counts | {"select": {"rows_in": 30, "quarantined": {TOO_LONG: 25}}}
    for part, found in enumerate((counts, refused)):
        prepare(ledger, part)
        marker = {"row_counts": found, "first_quarantined": ""}
        ledger.put_part(1, part, {"rows": to_table(rows(part, 40, 0))}, marker)
    limit = QuarantineLimit(0.2, ledger, 1)
    assert (limit.pairs.total, dict(limit.pairs.reasons)) == (60, {TOO_LONG: 25})
    limit.remove_parts()
    assert (ledger.parts(1), PreparedParts(ledger, 1).numbers()) == ([0], [0, 1])


def test_a_round_whose_pairs_are_all_refused_ends(ledger: Ledger) -> None:
    with pytest.raises(TooManyQuarantined, match=r"50 of 50 pairs .*critic\.engine\.max_model_len"):
        QuarantineLimit(0.2, ledger, 1).check(Tally(0, 9, {}, pairs=50, quarantined_pairs={TOO_LONG: 50}))


@pytest.mark.parametrize(("share", "quarantined"), [(0.2, 8), (1.0, 39)])
def test_up_to_the_limit_it_goes_on(share: float, quarantined: int, ledger: Ledger) -> None:
    limit = QuarantineLimit(share, ledger, 1)
    limit.check(Tally(0, 40, {"image_missing": quarantined}, pairs=40, quarantined_pairs={TOO_LONG: quarantined}))
    limit.check(Tally(1, 40, {"image_missing": quarantined}, pairs=40, quarantined_pairs={TOO_LONG: quarantined}))


def test_a_few_prompts_and_pairs_do_not_tell(ledger: Ledger) -> None:
    tally = Tally(0, 49, {"image_missing": 40}, pairs=49, quarantined_pairs={TOO_LONG: 49})
    QuarantineLimit(0.2, ledger, 1).check(tally)
