"""The whole loop on a user's own pictures, with every real engine: killed and run again, it ends the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from vlrm_ray import report
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger

ROOT = Path(__file__).parents[2]
QUESTIONS = ("Describe the image.", "What do you see?", "How many circles are there?")
PARTS = 2
SETTINGS = [
    "rounds=1",
    "prompts.per_round=48",
    "part_rows=24",
    "evaluation.pairs=10",
    "evaluation.pope=4",
    "train.epochs=1",
    "selection.margin=0",
    "cluster.dashboard=false",
]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pictures with three questions each; one of the pictures is broken."""
    folder = tmp_path_factory.mktemp("own")
    lines = []
    for index in range(16):
        path = folder / f"{index:02d}.png"
        paint(UNBIASED_WORLD.sample(900 + index)).image.save(path)
        lines += [json.dumps({"image": path.name, "question": question}) for question in QUESTIONS]
    (folder / "03.png").write_bytes(b"this is no picture")
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return folder / "prompts.jsonl"


def start(prompts: Path, folder: Path, name: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(ROOT / "jobs" / "iterate.py"),
        *SETTINGS,
        f"prompts.source={prompts}",
        f"folder={folder}",
        f"name={name}",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output[-4000:]
    return output


def hashes(run: Path) -> dict[str, Any]:
    """Content hashes of everything a run committed."""
    ledger = Ledger(str(run))
    found: dict[str, Any] = {
        stage: (ledger.result(1, stage) or {})["sha256"]
        for stage in ("generate", "verify", "pair", "critique", "select")
    }
    files = dict((ledger.result(1, "publish") or {})["files"])
    return found | {"version": files, "metrics": (ledger.result(1, "evaluate") or {})["metrics"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def unkilled(prompts: Path, folder: Path) -> Path:
    output = finish(start(prompts, folder, "unkilled"))
    assert "report: " in output
    return folder / "unkilled"


def test_the_report_follows_its_schema_and_counts_every_row(unkilled: Path) -> None:
    found = json.loads((unkilled / "report.json").read_text())
    jsonschema.validate(found, report.schema())
    assert [r["rm_version"] for r in found["rounds"]] == [0, 1]
    for rows in found["rounds"][1]["rows"].values():
        assert rows["in"] == rows["kept"] + sum(rows["dropped"].values()) + sum(rows["quarantined"].values())


def test_the_broken_picture_is_quarantined_and_counted(unkilled: Path) -> None:
    rows = json.loads((unkilled / "report.json").read_text())["rounds"][1]["rows"]["generate"]
    assert rows["quarantined"] == {"image_undecodable": len(QUESTIONS)}
    assert rows["kept"] == 15 * len(QUESTIONS) * 6


def test_rows_carry_no_pixels(unkilled: Path) -> None:
    table = pq.read_table(unkilled / "round-0001" / "generate" / "part-00000.parquet")
    assert table.nbytes / table.num_rows < 4096


def test_each_picture_was_looked_at_once(unkilled: Path) -> None:
    for expert in (unkilled / "evidence").iterdir():
        assert len(list(expert.rglob("*.json"))) == 15


def test_a_killed_run_goes_on_and_ends_with_the_same_content(prompts: Path, folder: Path, unkilled: Path) -> None:
    process = start(prompts, folder, "killed")
    marker = folder / "killed" / "round-0001" / "select" / "part-00000.json"
    deadline = time.monotonic() + 400
    while not marker.exists():
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = marker.read_bytes()
    finish(start(prompts, folder, "killed"))
    assert marker.read_bytes() == before
    assert hashes(folder / "killed") == hashes(unkilled)


def test_run_again_it_does_nothing_twice(prompts: Path, folder: Path, unkilled: Path) -> None:
    before = hashes(unkilled)
    output = finish(start(prompts, folder, "unkilled"))
    assert hashes(unkilled) == before
    assert "gather" not in output
    assert "start Ray" not in output


def test_a_changed_configuration_is_refused(prompts: Path, folder: Path, unkilled: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "jobs" / "iterate.py"),
        *SETTINGS,
        f"prompts.source={prompts}",
        f"folder={folder}",
        "name=unkilled",
        "seed=5",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "seed: 0 -> 5" in done.stderr


def test_the_published_folder_loads_in_transformers(unkilled: Path, tmp_path: Path) -> None:
    from actors.transformers_engine import TransformersEngine
    from vlrm_ray.engines import EngineSettings
    from vlrm_ray.reward.canary import TOLERANCE, canary_request

    version = tmp_path / "version"
    shutil.copytree(unkilled / "versions" / "0001", version)
    engine = TransformersEngine(EngineSettings("transformers", str(version), "float32", 512, 8, 64, 0.5, 0, 1))
    (found,) = engine.score([canary_request(str(version), "compact")])
    published = json.loads((version / "vlrm_reward.json").read_text())["canary"]
    assert found.yes == pytest.approx(published["yes"], abs=TOLERANCE)
