"""`evaluate.py bench` with a real engine on made-up POPE items: broken input, both orders, killed and run again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vlrm_ray.config import asset_path
from vlrm_ray.scenes import pope

ROOT = Path(__file__).parents[2]
ITEMS = 12


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, str(ROOT / "jobs" / "evaluate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)


def bench(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return evaluate(
        "bench", "--benchmark", "pope", "--rm", asset_path("assets:vlm"), "--judge", "pointwise", "--data", str(data),
        "--out", str(out), *more, "critic.format=compact", "critic.engine.kind=transformers",
        "critic.max_tokens=80",
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four questions of each strategy: one picture is broken, one question breaks the engine's image placeholders."""
    folder = tmp_path_factory.mktemp("pope")
    pope.write(folder, 2)
    for path in folder.glob("scenes_pope_*.json"):
        rows = [json.loads(line) for line in path.read_text().splitlines()[:4]]
        if "random" in path.name:
            rows[1]["image"], rows[2]["text"] = "broken.png", "Is there a <|image_pad|>?"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "broken.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "both"
    done = bench(data, folder, "--order", "both")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "image_undecodable" in done.stdout
    return folder


def test_every_item_is_in_the_summary(out: Path) -> None:
    found = json.loads((out / "summary.json").read_text())
    assert (found["benchmark"], found["n"]) == ("pope", ITEMS)
    assert {group["n"] for group in found["groups"].values()} == {4}
    reasons = found["details"]["quarantined"]
    assert reasons.pop("image_undecodable") == 1
    assert [reason.partition(":")[0] for reason in reasons] == ["refused by the engine"]
    assert found["groups"]["random"]["accuracy"] <= 0.5
    assert found["details"]["items_per_second"] > 0


def test_the_other_order_changes_nothing_for_a_pointwise_judge(out: Path) -> None:
    found = json.loads((out / "summary.json").read_text())
    assert found["position_disagreement"] == 0
    assert found["details"]["overall_other_order"] == found["overall"]
    assert len(lines(out / "judged.jsonl")) == 2 * ITEMS


def test_predictions_answer_the_questions(out: Path) -> None:
    answers = lines(out / "predictions.jsonl")
    assert len(answers) == ITEMS
    assert {answer["answer"] for answer in answers} == {"Yes", "No", "undecided"}
    assert [answer["question_id"] for answer in answers] == [1, 2, 3, 4] * 3
    right = [a["answer"].lower() == a["label"] for a in answers]
    assert sum(right) / ITEMS == pytest.approx(json.loads((out / "summary.json").read_text())["overall"], abs=1e-6)


def test_a_killed_run_ends_the_same(data: Path, out: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(out, again)
    for name in ("summary.json", "predictions.jsonl", "items.jsonl"):
        (again / name).unlink()
    whole = (out / "judged.jsonl").read_text().splitlines(keepends=True)
    (again / "judged.jsonl").write_text("".join(whole[:9]) + whole[9][:20])
    done = bench(data, again)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "results: " in done.stdout
    assert json.loads((again / "summary.json").read_text())["details"]["items_per_second"] > 0
    assert (again / "predictions.jsonl").read_text() == (out / "predictions.jsonl").read_text()
    compared = evaluate("compare", str(out), str(again))
    assert compared.returncode == 0
    assert "do not differ" in compared.stdout


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--k", "2"], "has results of another benchmark or judge (k: 1 -> 2)"),
        (["--limit", "0"], "--limit 0: expected at least 1"),
        (["critic.model=x"], "critic.model cannot be overridden"),
    ],
)
def test_what_cannot_go_on_is_one_line(data: Path, out: Path, more: Sequence[str], expected: str) -> None:
    done = bench(data, out, *more)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
