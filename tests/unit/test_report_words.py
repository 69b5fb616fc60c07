"""The report explains its words to a newcomer: those of what a run has measured, and no others."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.made_up import config, ledger_of_one_round
from vlrm_ray.report.build import build_report
from vlrm_ray.report.headline import headline
from vlrm_ray.report.reporter import report_page
from vlrm_ray.store.ledger import Ledger


def terms(ledger: Ledger) -> list[str]:
    """The terms that a run's page explains."""
    page = report_page(ledger, build_report(config().model_dump(mode="json"), ledger, 60.0, 1 << 30)).decode()
    explained = re.search(r'<details class="terms">.*?</details>', page, re.DOTALL)
    assert explained is not None
    return re.findall("<dt>(.*?)</dt>", explained[0])


def test_the_words_of_the_benchmark_are_explained_where_it_was_measured(tmp_path: Path) -> None:
    explained = terms(ledger_of_one_round(tmp_path))
    assert {"hallucination pair", "reasoning pair", "without the image (“blind”)", "95 % interval"} <= set(explained)
    assert "held-out pair" not in explained


def test_a_run_without_a_benchmark_explains_its_data_only(tmp_path: Path) -> None:
    explained = terms(Ledger(str(tmp_path)))
    assert {"pair", "claim, verdict", "critique, judgement", "margin"} <= set(explained)
    assert "hallucination pair" not in explained


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("hallucination_pair_accuracy", "one fact of the image decides"),
        ("reasoning_pair_accuracy", "several facts"),
        ("held_out_pair_accuracy", "the vision experts"),
    ],
)
def test_each_main_metric_says_what_it_is_about(name: str, meaning: str) -> None:
    gain = {"from_round": 0, "to_round": 1, "value": 0.1, "n": 10, "ci95": (0.02, 0.2), "paired": True}
    rounds: list[dict[str, Any]] = [
        {"round": i, "metrics": {name: {"value": 0.6, "n": 10, "ci95": [0.5, 0.7]}}} for i in (0, 1)
    ]
    assert meaning in headline({"gains": {name: gain}, "rounds": rounds}).tiles[0].detail
