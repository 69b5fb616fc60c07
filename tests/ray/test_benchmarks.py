"""`evaluate.py bench` with a real engine on made-up POPE items: broken input, both orders, interrupted and resumed."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs import evaluate
from tests.ray.programs import ROOT, exit_status, run_program
from vlrm_ray.config import asset_path
from vlrm_ray.scenes import pope

ITEMS = 12


def bench_arguments(data: Path, out: Path, *more: str) -> list[str]:
    return [
        "bench", "--benchmark", "pope", "--rm", asset_path("assets:vlm"), "--judge", "pointwise", "--data", str(data),
        "--out", str(out), *more, "critic.format=compact", "critic.engine.kind=transformers", "critic.engine.actors=1",
        "critic.max_tokens=80", "cluster.dashboard=false",
    ]  # fmt: skip


def bench(data: Path, out: Path, ray_folder: str, *more: str) -> str:
    """Run the benchmark to its end; returns what it printed."""
    program = str(ROOT / "jobs" / "evaluate.py")
    done = run_program(program, *bench_arguments(data, out, *more), RAY_TMPDIR=ray_folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four questions of each strategy: one image is broken, one question has the engine's image placeholder."""
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
def out(data: Path, ray_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "both"
    assert "image_undecodable" in bench(data, folder, ray_folder, "--order", "both")
    return folder


def test_every_item_is_in_the_summary(out: Path) -> None:
    found = json.loads((out / "summary.json").read_text())
    assert (found["benchmark"], found["n"]) == ("pope", ITEMS)
    assert {group["n"] for group in found["groups"].values()} == {4}
    assert found["details"]["quarantined"] == {"image_undecodable": 1}  # the placeholder is read as plain text
    assert found["groups"]["random"]["accuracy"] <= 0.75
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


def test_an_interrupted_run_resumes_and_ends_the_same(
    data: Path, out: Path, ray_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The interruption left nine judged items, a line that is cut off, and no results."""
    again = tmp_path / "again"
    shutil.copytree(out, again)
    for name in ("summary.json", "predictions.jsonl", "items.jsonl"):
        (again / name).unlink()
    whole = (out / "judged.jsonl").read_text().splitlines(keepends=True)
    (again / "judged.jsonl").write_text("".join(whole[:9]) + whole[9][:20])
    assert "results: " in bench(data, again, ray_folder)
    assert json.loads((again / "summary.json").read_text())["details"]["items_per_second"] > 0
    assert (again / "predictions.jsonl").read_text() == (out / "predictions.jsonl").read_text()
    assert exit_status(evaluate.main, "compare", str(out), str(again)) == 0
    assert "do not differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--k", "2"], "has results of another benchmark, model or setting (k: 1 -> 2)"),
        (["--limit", "0"], "--limit 0: expected at least 1"),
        (["critic.model=x"], "critic.model cannot be overridden"),
    ],
)
def test_wrong_arguments_are_refused_with_one_line(
    data: Path, out: Path, more: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(evaluate.main, *bench_arguments(data, out, *more)) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert len(message.strip().splitlines()) == 1
