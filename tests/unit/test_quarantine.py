"""A run of which too many prompts or pairs cannot be used ends early, and can be repeated."""

from pathlib import Path

import pyarrow as pa
import pytest

from vlrm_ray.engines import REFUSED, TOO_LONG
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.quarantine import QuarantineLimit
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts


def committed(folder: Path, parts: int) -> Ledger:
    ledger = Ledger(str(folder))
    for part in range(parts):
        ledger.put_part(1, part, {}, {})
    return ledger


def test_above_the_limit_the_run_ends_and_the_affected_parts_are_made_again(tmp_path: Path) -> None:
    ledger = committed(tmp_path, 3)
    limit = QuarantineLimit(0.2, ledger, 1)
    limit.check(Tally(0, 40, {}))
    limit.check(Tally(1, 40, {"image_missing": 10, "question_missing": 2}, "a.png, 'Why?'"))
    with pytest.raises(UserError) as caught:
        limit.check(Tally(2, 40, {"image_missing": 20}, "b.png, 'Why?'"))
    message = str(caught.value)
    assert message.startswith(
        "round 1: 32 of 120 prompts are quarantined, more than quarantine_limit=0.2: image_missing 30,"
    )
    assert "(first: a.png, 'Why?')" in message
    assert "raise quarantine_limit" in message
    assert "\n" not in message
    assert ledger.parts(1) == [0]


def test_pairs_that_the_critics_refuse_count_by_themselves(tmp_path: Path) -> None:
    ledger = committed(tmp_path, 2)
    prepared = PreparedParts(ledger, 1)
    prepared.put(1, pa.table({"part": [1]}))
    limit = QuarantineLimit(0.2, ledger, 1)
    limit.check(Tally(0, 40, {}, pairs=30))
    with pytest.raises(UserError) as caught:
        limit.check(Tally(1, 40, {}, pairs=30, quarantined_pairs={f"{REFUSED}: x": 13}))
    assert str(caught.value) == (
        f"round 1: 13 of 60 pairs are quarantined, more than quarantine_limit=0.2: {REFUSED}: x 13; check critic.model and "
        "critic.engine, or raise quarantine_limit"
    )
    assert (ledger.parts(1), prepared.numbers()) == ([0], [1])  # its candidates can be used again


def test_a_round_whose_pairs_are_all_refused_ends(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"50 of 50 pairs .*critic\.engine\.max_model_len"):
        QuarantineLimit(0.2, committed(tmp_path, 1), 1).check(
            Tally(0, 9, {}, pairs=50, quarantined_pairs={TOO_LONG: 50})
        )


@pytest.mark.parametrize(("share", "quarantined"), [(0.2, 8), (1.0, 39)])
def test_up_to_the_limit_it_goes_on(share: float, quarantined: int, tmp_path: Path) -> None:
    limit = QuarantineLimit(share, committed(tmp_path, 2), 1)
    limit.check(Tally(0, 40, {"image_missing": quarantined}, pairs=40, quarantined_pairs={TOO_LONG: quarantined}))
    limit.check(Tally(1, 40, {"image_missing": quarantined}, pairs=40, quarantined_pairs={TOO_LONG: quarantined}))


def test_a_few_prompts_and_pairs_do_not_tell(tmp_path: Path) -> None:
    tally = Tally(0, 49, {"image_missing": 40}, pairs=49, quarantined_pairs={TOO_LONG: 49})
    QuarantineLimit(0.2, committed(tmp_path, 1), 1).check(tally)
