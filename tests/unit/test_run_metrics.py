"""`metrics.jsonl`: counters of a run over time, continued when the run resumes."""

import json
import time
from pathlib import Path

import pytest

from vlrm_ray.pipeline import run_metrics
from vlrm_ray.pipeline.run_metrics import FILE, RunMetrics
from vlrm_ray.store.ledger import Ledger


def lines(ledger: Ledger) -> list[dict[str, object]]:
    return [json.loads(line) for line in (ledger.get(FILE) or b"").decode().splitlines()]


def test_counters_are_sampled_with_rates_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_metrics, "SAMPLE_SECONDS", 0.05)
    ledger, rows = Ledger(str(tmp_path)), {"generate": 0}
    for round_ in (1, 2):
        with RunMetrics(ledger).sampled(round_, lambda: rows, lambda: {"policy-0": {"running": 3, "waiting": 4}}):
            rows["generate"] += 100
            time.sleep(0.2)
    found = lines(ledger)
    assert [line["round"] for line in found] == sorted(int(str(line["round"])) for line in found)
    assert {line["round"] for line in found} == {1, 2}
    assert found[-1]["rows"] == {"generate": 200}
    assert found[0]["engines"] == {"policy-0": {"running": 3, "waiting": 4}}
    assert max(line["rates"]["generate"] for line in found) > 0  # type: ignore[index]


def test_the_last_state_is_written_when_a_round_fails(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    with pytest.raises(KeyError), RunMetrics(ledger).sampled(1, lambda: {"generate": 7}, dict):
        raise KeyError
    assert lines(ledger)[-1]["rows"] == {"generate": 7}


def test_a_long_file_is_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_metrics, "WRITE_SECONDS", 0.0)
    ledger = Ledger(str(tmp_path))
    metrics = RunMetrics(ledger)
    metrics.add({"text": "x" * 1_000_000})  # ten seconds' worth
    metrics.add({"round": 2})
    assert len(RunMetrics(ledger).read()) == 1
    metrics.write()
    assert len(RunMetrics(ledger).read()) == 2
