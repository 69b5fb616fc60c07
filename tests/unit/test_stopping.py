"""What each round brings, and when a run with `rounds: auto` ends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.gains import gain_between, main_metrics, shows_gain
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.stopping import is_finished, rounds_to_run
from vlrm_ray.report.build import build_report, schema
from vlrm_ray.report.headline import headline
from vlrm_ray.report.page import render_report
from vlrm_ray.store.ledger import Ledger

NAME = "hallucination_pair_accuracy"


def evaluated(right: int, n: int = 1000, name: str = NAME) -> dict[str, Any]:
    """The result of an evaluation in which the first `right` of `n` pairs were judged rightly."""
    hits = [index < right for index in range(n)]
    return {
        "metrics": {name: metrics.share(hits).as_json()}, "hits": {name: "".join(str(int(hit)) for hit in hits)},
        "seconds": 1.0,
    }  # fmt: skip


def test_a_gain_is_paired_by_item_and_narrower_than_an_unpaired_one() -> None:
    before, after = evaluated(800), evaluated(830)
    paired = gain_between(NAME, before, after)
    unpaired = gain_between(NAME, {**before, "hits": {}}, after)
    assert paired.value == pytest.approx(0.03)
    assert (paired.paired, unpaired.paired) == (True, False)
    assert unpaired.low < 0 < paired.low
    assert unpaired.high > paired.high


@pytest.mark.parametrize(("after", "gained"), [(830, True), (801, False), (800, False), (700, False)])
def test_a_gain_is_shown_if_its_interval_is_above_zero(after: int, gained: bool) -> None:
    assert shows_gain(evaluated(800), evaluated(after)) is gained


def test_other_metrics_show_no_gain() -> None:
    assert not shows_gain(evaluated(100, name="count_pair_accuracy"), evaluated(900, name="count_pair_accuracy"))


def test_without_a_main_metric_public_benchmarks_show_a_gain() -> None:
    names = ["benchmark_pope_accuracy", "benchmark_pope_pick_shorter_accuracy", "benchmark_pope_undecided", "ece"]
    assert main_metrics(names) == ["benchmark_pope_accuracy"]
    assert main_metrics([*names, NAME]) == [NAME]
    assert shows_gain(evaluated(800, name=names[0]), evaluated(830, name=names[0]))
    assert not shows_gain(evaluated(800, name=names[1]), evaluated(830, name=names[1]))


def run_rounds(ledger: Ledger, overrides: Sequence[str], accuracies: Sequence[int], name: str = NAME) -> list[int]:
    """The rounds of a run whose evaluations, the baseline first, judge so many of 1,000 pairs rightly."""
    config, run = load(None, overrides), []
    ledger.finish(0, "evaluate", evaluated(accuracies[0], name=name))
    for number in rounds_to_run(config, ledger):
        assert not is_finished(config, ledger)
        run.append(number)
        for stage in ("select", "train", "publish"):
            ledger.finish(number, stage, {"version": number, "seconds": 1.0, "wall_seconds": 1.0})
        ledger.finish(number, "evaluate", evaluated(accuracies[number], name=name))
    assert is_finished(config, ledger)
    return run


@pytest.mark.parametrize(
    ("overrides", "accuracies", "rounds"),
    [
        (["rounds=2"], [700, 700, 700], [1, 2]),
        (["rounds=0"], [700], []),
        (["rounds=auto"], [700, 800, 850, 850, 900], [1, 2, 3]),
        (["rounds=auto"], [700, 690], [1]),
        (["rounds=auto", "max_rounds=2"], [700, 800, 850, 900], [1, 2]),
    ],
)
def test_with_auto_the_first_round_without_a_gain_is_the_last(
    overrides: list[str], accuracies: list[int], rounds: list[int], tmp_path: Path
) -> None:
    ledger = Ledger(str(tmp_path))
    assert run_rounds(ledger, overrides, accuracies) == rounds
    assert list(rounds_to_run(load(None, overrides), ledger)) == rounds, "a resumed run ends at the same round"


def test_a_run_that_only_a_public_benchmark_measures_goes_on_while_that_rises_and_says_so(tmp_path: Path) -> None:
    ledger, name = Ledger(str(tmp_path)), "benchmark_pope_accuracy"
    assert run_rounds(ledger, ["rounds=auto"], [500, 670, 670], name) == [1, 2]
    report = build_report(load(None, ["rounds=auto"]).model_dump(mode="json"), ledger, 1.0, 1)
    assert headline(report).title == "Accuracy on items of the benchmark pope rose from 50.0 % to 67.0 %".replace(
        " %", "\u00a0%"
    )
    page = render_report(ledger, report)
    assert "All metrics as a table" in page


def test_the_report_knows_that_an_automatic_run_is_complete(tmp_path: Path) -> None:
    import jsonschema

    ledger = Ledger(str(tmp_path))
    run_rounds(ledger, ["rounds=auto"], [700, 800, 800])
    report = build_report(load(None, ["rounds=auto"]).model_dump(mode="json"), ledger, 1.0, 1)
    assert report["next"] == ""
    assert [round_["gains"][NAME]["value"] for round_ in report["rounds"][1:]] == [pytest.approx(0.1), 0.0]
    jsonschema.Draft202012Validator(schema()["properties"]["rounds"]["items"]["properties"]["gains"]).validate(
        report["rounds"][1]["gains"]
    )


@pytest.mark.parametrize("more", [["evaluation.holdout=0"], ["evaluation.holdout=0.1", "pairing.labels=self"]])
def test_auto_is_refused_if_nothing_is_measured_because_it_could_never_end_early(
    more: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text('{"image": "a.png", "question": "Why?"}')
    data = [f"prompts.source={source}", "evaluation.pairs=0"]
    with pytest.raises(UserError, match=r"^rounds=auto ends a run by what is measured .* or a number of rounds$"):
        check_inputs(load(None, [*data, *more, "rounds=auto"]))
    check_inputs(load(None, [*data, *more, "rounds=2"]))
    check_inputs(load(None, [*data, "evaluation.holdout=0.1", "rounds=auto"]))


@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_rounds_are_a_number_or_auto(value: str) -> None:
    with pytest.raises(UserError, match="rounds: expected a valid integer, 0 or more, or auto"):
        load(None, [f"rounds={value}"])
