"""`report.json`: content built from a made-up ledger, compared with values computed by hand."""

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from actors.progress_board import ProgressBoard
from tests.unit.made_up import TRAINING, config, evaluation_result, ledger_of_one_round, pair, row
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.clusters import ece
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.pipeline import part_statistics
from vlrm_ray.report import plots
from vlrm_ray.report.build import build_report, schema
from vlrm_ray.report.reporter import Reporter
from vlrm_ray.store.ledger import STAGES, Ledger


def built(ledger: Ledger) -> dict[str, Any]:
    """The report of a ledger, as it is read back from the file."""
    content: dict[str, Any] = json.loads(json.dumps(build_report(config().model_dump(mode="json"), ledger, 1.0, 1)))
    return content


def test_margins_are_of_the_selected_critiques_or_the_largest_that_a_dropped_pair_reaches() -> None:
    kept, dropped = pair("a", chosen=(0.9, 0.6), rejected=(0.1, 0.4)), pair("b", chosen=(0.5,), rejected=(0.5,))
    assert part_statistics.margin_of(kept, None) == pytest.approx(0.8)
    counts = part_statistics.count_rows([row([kept, dropped], keep=["a"])])
    assert [i for i, n in enumerate(counts["margins"]["kept"]) if n] == [36]  # 0.8 to 0.85
    assert [i for i, n in enumerate(counts["margins"]["refused"]) if n] == [20]  # 0 to 0.05
    assert counts["pairs"] == {"full": {"made": 2, "kept": 1}}
    assert counts["claims"]["attribute"] == {"supported": 2, "contradicted": 2, "unverifiable": 0}


def test_a_reward_that_is_not_finite_has_no_margin() -> None:
    broken = pair("a", chosen=(float("nan"), float("inf")), rejected=(0.1,))
    assert part_statistics.margin_of(broken, None) is None
    assert sum(part_statistics.count_rows([row([broken], keep=[])])["margins"]["refused"]) == 0


def test_counts_of_parts_add_up_to_those_of_all_rows() -> None:
    rows = [row([pair("a")], keep=["a"]), row([pair("b")], keep=[])]
    assert part_statistics.sum_counts(
        [part_statistics.count_rows(rows[:1]), part_statistics.count_rows(rows[1:])]
    ) == part_statistics.count_rows(rows)


def test_the_interval_of_a_gain_is_that_of_newcombe() -> None:
    # 56 of 70 against 48 of 80, the example of Newcombe (1998): 0.0524 to 0.3339
    value, low, high = metrics.gain(share([True] * 48 + [False] * 32), share([True] * 56 + [False] * 14))
    assert (value, low, high) == (pytest.approx(0.2), pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_the_interval_of_paired_outcomes_is_narrower() -> None:
    before, after = [True] * 60 + [False] * 40, [True] * 65 + [False] * 35
    _, low, high = metrics.gain(share(before), share(after))
    _, paired_low, paired_high = metrics.gain(share(before), share(after), metrics.phi(before, after))
    assert low < paired_low < 0.05 < paired_high < high


def test_ece_is_the_sum_over_the_reliability_bins() -> None:
    rewards, right = [0.95, 0.95, 0.05, 0.05], [True, False, False, False]
    bins = metrics.reliability(rewards, right)
    assert [(b["low"], b["n"], b["mean_reward"], b["right"]) for b in bins] == [
        (0.0, 2, 0.05, 0.0),
        (0.9, 2, 0.95, 0.5),
    ]
    error = sum(b["n"] * abs(b["mean_reward"] - b["right"]) for b in bins) / 4
    assert error == pytest.approx(ece(rewards, right).value)


def test_the_board_joins_spans_and_numbers_the_actors_of_a_pool() -> None:
    board = ProgressBoard()
    board.add("detect", 1, 5.0, "#77")
    board.add("detect", 1, 5.0, "#12")
    board.add("detect", 1, 1.0, "#77")
    board.add("verify", 1, 1.0)
    board.add("pair", 1)
    _, spans = board.busy()
    assert set(spans) == {"detect-0", "detect-1", "verify"}
    assert [round(end - begin) for begin, end in spans["detect-0"]] == [5]


def test_a_gain_compares_the_same_pairs_of_the_first_and_the_last_evaluation(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path, before="1100", after="1111")
    gain = built(ledger)["gains"]["hallucination_pair_accuracy"]
    assert (gain["from_round"], gain["to_round"], gain["value"], gain["n"], gain["paired"]) == (0, 1, 0.5, 4, True)
    assert gain["ci95"][0] < 0.5 < gain["ci95"][1]


def test_a_gain_without_outcomes_by_item_is_that_of_independent_samples(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    ledger.finish(0, "evaluate", evaluation_result("1100", start=0.0) | {"hits": {}})
    assert built(ledger)["gains"]["hallucination_pair_accuracy"]["paired"] is False


def test_the_timeline_starts_at_the_first_work(tmp_path: Path) -> None:
    timeline = built(ledger_of_one_round(tmp_path))["timeline"]
    assert min(span["began"] for span in timeline) == 0.0
    assert {span["lane"] for span in timeline} == {"policy-0", "critic-0", "train", "publish", "evaluate"}


def test_a_complete_report_is_valid_and_has_no_next_stage(tmp_path: Path) -> None:
    content = built(ledger_of_one_round(tmp_path))
    jsonschema.validate(content, schema())
    assert (content["schema_version"], content["next"]) == (2, "")


def test_the_committed_parts_of_a_killed_run_count(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path, until="select")
    for name in STAGES:
        Path(ledger.path("round-0001", f"{name}.json")).unlink(missing_ok=True)
    content = built(ledger)
    jsonschema.validate(content, schema())
    assert content["next"] == "round 1: gather"
    assert content["rounds"][1]["rows"]["select"] == {"in": 2, "kept": 1, "dropped": {"margin": 1}, "quarantined": {}}
    assert sum(content["rounds"][1]["statistics"]["margins"]["kept"]) == 1


def test_a_gathered_round_is_reported_without_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of 200,000 prompts has thousands; a run of an older version has no sums, so its parts are read."""
    ledger = ledger_of_one_round(tmp_path)
    before = built(ledger)["rounds"]
    select = ledger.result(1, "select") or {}
    ledger.finish(1, "select", select | {"statistics": part_statistics.summed([*ledger.part_markers(1).values()])})
    monkeypatch.setattr(Ledger, "part_marker", lambda *_: pytest.fail("a marker is read"))
    assert built(ledger)["rounds"] == before
    assert before[1]["statistics"]["pairs"] == {"full": {"made": 2, "kept": 1}}


def test_an_empty_run_has_no_rounds(tmp_path: Path) -> None:
    content = built(Ledger(str(tmp_path)))
    assert (content["rounds"], content["gains"], content["next"]) == ([], {}, "round 1: gather")


def test_time_is_not_counted_twice_when_the_report_is_written_twice(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    ledger.put_json("report.json", {"wall_seconds": 100.0, "peak_memory_bytes": 7 << 40})
    reporter = Reporter(config(), ledger)
    reporter.write()
    content = reporter.write()
    reporter.memory.stop()
    assert 100.0 <= content["wall_seconds"] < 160.0
    assert content["peak_memory_bytes"] == 7 << 40


def test_passwords_of_uris_are_not_shown(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    reporter = Reporter(config().model_copy(update={"cache": "s3://me:secret@photos/cache"}), ledger)
    reporter.write()
    reporter.memory.stop()
    data, page = (ledger.get(name) or b"" for name in ("report.json", "report.html"))
    assert b"secret" not in data + page
    assert b"s3://***@photos/cache" in data


def test_the_training_of_a_round_is_that_of_its_result(tmp_path: Path) -> None:
    before, after = built(ledger_of_one_round(tmp_path))["rounds"]
    assert after["training"] == TRAINING
    assert "training" not in before


def test_perfectly_calibrated_rewards_show_an_error_by_chance() -> None:
    """Of few responses a large one: it is what many draws of calibrated responses show on average."""
    one = metrics.reliability([0.5], [True])
    assert metrics.chance_ece(one) == 0.5
    rng, errors = random.Random(0), []
    rewards = [rng.random() for _ in range(400)]
    for _ in range(200):
        errors.append(ece(rewards, [rng.random() < reward for reward in rewards], [0] * 400).value)
    expected = metrics.chance_ece(metrics.reliability(rewards, [True] * 400))
    assert expected == pytest.approx(sum(errors) / 200, rel=0.05)
    assert 0.045 < expected < 0.055
    text = plots.calibration_error([{"reliability": one}, {"reliability": None}]).replace("\u00a0", " ")
    assert "error of the 1 responses is 50.0 %; perfectly calibrated rewards of as many show 50.0 % by chance." in text
    assert plots.calibration_error([{}]) == ""


def test_the_calibration_line_leaves_out_what_one_response_says() -> None:
    bins = [{"mean_reward": 0.25, "right": 0.5, "n": 40}, {"mean_reward": 0.55, "right": 0.0, "n": 1}]
    assert plots.calibration_line(bins) == [(25.0, 50.0)]
    plot = plots.reliability([{"round": 0, "reliability": bins}])
    assert plot is not None
    assert "at least 10 responses" in plot.text
