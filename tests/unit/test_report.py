"""`report.json`: what the ledger holds, summed and compared by hand."""

import json
from pathlib import Path

import jsonschema
import pytest

from actors.progress_board import ProgressBoard
from tests.unit.made_up import config, evaluation_result, ledger_of_one_round, pair, row
from vlrm_ray import report
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.pipeline import part_statistics
from vlrm_ray.store.ledger import Ledger


def test_margins_are_of_the_kept_critiques_or_the_best_that_a_refused_pair_reaches() -> None:
    kept, refused = pair("a", chosen=(0.9, 0.6), rejected=(0.1, 0.4)), pair("b", chosen=(0.5,), rejected=(0.5,))
    assert part_statistics.margin_of(kept, None) == pytest.approx(0.8)
    counts = part_statistics.count_rows([row([kept, refused], keep=["a"])])
    assert [i for i, n in enumerate(counts["margins"]["kept"]) if n] == [36]  # 0.8 to 0.85
    assert [i for i, n in enumerate(counts["margins"]["refused"]) if n] == [20]  # 0 to 0.05
    assert counts["pairs"] == {"full": {"made": 2, "kept": 1}}
    assert counts["claims"]["attribute"] == {"supported": 2, "contradicted": 2, "unverifiable": 0}


def test_a_reward_that_is_no_number_has_no_margin() -> None:
    broken = pair("a", chosen=(float("nan"), float("inf")), rejected=(0.1,))
    assert part_statistics.margin_of(broken, None) is None
    assert sum(part_statistics.count_rows([row([broken], keep=[])])["margins"]["refused"]) == 0


def test_counts_of_parts_add_up_to_those_of_all_rows() -> None:
    rows = [row([pair("a")], keep=["a"]), row([pair("b")], keep=[])]
    assert part_statistics.sum_counts(
        [part_statistics.count_rows(rows[:1]), part_statistics.count_rows(rows[1:])]
    ) == part_statistics.count_rows(rows)


def test_the_interval_of_a_gain_is_newcombes() -> None:
    # 56 of 70 against 48 of 80, the example of Newcombe (1998): 0.0524 to 0.3339
    value, low, high = metrics.gain(share([True] * 48 + [False] * 32), share([True] * 56 + [False] * 14))
    assert (value, low, high) == (pytest.approx(0.2), pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_the_same_items_twice_make_the_interval_narrower() -> None:
    before, after = [True] * 60 + [False] * 40, [True] * 65 + [False] * 35
    _, low, high = metrics.gain(share(before), share(after))
    _, paired_low, paired_high = metrics.gain(share(before), share(after), metrics.phi(before, after))
    assert low < paired_low < 0.05 < paired_high < high


def test_reliability_bins_hold_what_ece_sums() -> None:
    rewards, right = [0.95, 0.95, 0.05, 0.05], [True, False, False, False]
    bins = metrics.reliability(rewards, right)
    assert [(b["low"], b["n"], b["mean_reward"], b["right"]) for b in bins] == [
        (0.0, 2, 0.05, 0.0),
        (0.9, 2, 0.95, 0.5),
    ]
    error = sum(b["n"] * abs(b["mean_reward"] - b["right"]) for b in bins) / 4
    assert error == pytest.approx(metrics.ece(rewards, right).value)


def test_the_board_joins_spans_and_numbers_the_actors_of_a_pool() -> None:
    board = ProgressBoard()
    board.add("detect", 1, 5.0, "#77")
    board.add("detect", 1, 5.0, "#12")
    board.add("detect", 1, 1.0, "#77")
    board.add("verify", 1, 1.0)
    board.add("pair", 1)
    spans = board.spans()
    assert set(spans) == {"detect-0", "detect-1", "verify"}
    assert [round(end - begin) for begin, end in spans["detect-0"]] == [5]


def test_a_gain_is_between_the_first_and_the_last_evaluation_pair_by_pair(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path, before="1100", after="1111")
    gain = report.build(config().model_dump(mode="json"), ledger, 1.0, 1)["gains"]["hallucination_pair_accuracy"]
    assert (gain["from_round"], gain["to_round"], gain["value"], gain["n"], gain["paired"]) == (0, 1, 0.5, 4, True)
    assert gain["ci95"][0] < 0.5 < gain["ci95"][1]


def test_without_outcomes_by_item_the_gain_is_that_of_independent_samples(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    ledger.finish(0, "evaluate", evaluation_result("1100", began=0.0) | {"hits": {}})
    assert (
        report.build(config().model_dump(mode="json"), ledger, 1.0, 1)["gains"]["hallucination_pair_accuracy"]["paired"]
        is False
    )


def test_the_timeline_begins_with_the_first_work(tmp_path: Path) -> None:
    timeline = report.build(config().model_dump(mode="json"), ledger_of_one_round(tmp_path), 1.0, 1)["timeline"]
    assert min(span["began"] for span in timeline) == 0.0
    assert {span["lane"] for span in timeline} == {"policy-0", "critic-0", "train", "publish", "evaluate"}


def test_a_complete_report_follows_the_schema_and_has_nothing_next(tmp_path: Path) -> None:
    found = json.loads(
        json.dumps(report.build(config().model_dump(mode="json"), ledger_of_one_round(tmp_path), 1.0, 1))
    )
    jsonschema.validate(found, report.schema())
    assert found["next"] == ""


def test_of_a_killed_run_committed_parts_count(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path, until="select")
    for name in ("generate", "verify", "pair", "critique", "select", "train", "publish", "evaluate"):
        Path(ledger.path("round-0001", f"{name}.json")).unlink(missing_ok=True)
    found = json.loads(json.dumps(report.build(config().model_dump(mode="json"), ledger, 1.0, 1)))
    jsonschema.validate(found, report.schema())
    assert found["next"] == "round 1: gather"
    assert found["rounds"][1]["rows"]["select"] == {"in": 2, "kept": 1, "dropped": {"margin": 1}, "quarantined": {}}
    assert sum(found["rounds"][1]["statistics"]["margins"]["kept"]) == 1


def test_a_run_that_has_left_nothing_has_no_rounds(tmp_path: Path) -> None:
    found = report.build(config().model_dump(mode="json"), Ledger(str(tmp_path)), 1.0, 1)
    assert (found["rounds"], found["gains"], found["next"]) == ([], {}, "round 0: evaluate")


def test_writing_twice_counts_no_second_twice(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    ledger.put_json("report.json", {"wall_seconds": 100.0, "peak_memory_bytes": 7 << 40})
    reporter = report.Reporter(config(), ledger)
    reporter.write()
    found = reporter.write()
    reporter.memory.stop()
    assert 100.0 <= found["wall_seconds"] < 160.0
    assert found["peak_memory_bytes"] == 7 << 40
