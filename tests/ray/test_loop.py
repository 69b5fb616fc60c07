"""The whole loop on a user's own images, with real engines: killed and resumed, a run ends as an uninterrupted one."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from jobs import iterate
from tests.ray.programs import ROOT, TIMEOUT, exit_status, run_program, started_program
from vlrm_ray.report.build import schema
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger

IMAGES, BROKEN = 8, 3
QUESTIONS = ("Describe the image.", "What do you see?", "How many circles are there?")
RESPONSES = 6
"""Of each prompt: four with the image, one without it, one with a degraded image."""
SETTINGS = (
    "rounds=1",
    f"prompts.per_round={IMAGES * len(QUESTIONS)}",
    f"part_rows={IMAGES * len(QUESTIONS) // 2}",
    "policy.engine.kind=transformers",
    "critic.engine.kind=vllm",
    "critic.engine.actors=1",
    "train.epochs=1",
    "selection.margin=0",
    "evaluation.pairs=6",
    "evaluation.pope=2",
    "cluster.dashboard=false",
)
ITERATE = ROOT / "jobs" / "iterate.py"
SMALL_ITERATE = Path(__file__).with_name("small_iterate.py")


@dataclass(frozen=True)
class Runs:
    """Runs with the same configuration, each in a folder of its own.

    Attributes:
        folder: holds the runs' folders.
        prompts: the prompt file.
        ray_folder: temporary folder of the runs' Ray clusters.
    """

    folder: Path
    prompts: Path
    ray_folder: str

    def arguments(self, name: str) -> list[str]:
        """Command line of a run."""
        return [*SETTINGS, f"prompts.source={self.prompts}", f"folder={self.folder}", f"name={name}"]

    def finish(self, name: str, program: Path = SMALL_ITERATE) -> str:
        """Start or resume a run and wait for its end; returns what it printed."""
        done = run_program(str(program), *self.arguments(name), RAY_TMPDIR=self.ray_folder)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def kill_after(self, name: str, file: Path) -> None:
        """Start a run, and kill it and its cluster as soon as the file exists."""
        with started_program(str(SMALL_ITERATE), *self.arguments(name), RAY_TMPDIR=self.ray_folder) as process:
            deadline = time.monotonic() + TIMEOUT
            while not file.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, f"{file} was not written in {TIMEOUT} s"
                time.sleep(0.2)


@pytest.fixture(scope="module")
def runs(ray_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Eight images with three questions each; one of the images is broken."""
    folder = tmp_path_factory.mktemp("own")
    lines = []
    for index in range(IMAGES):
        path = folder / f"{index:02d}.png"
        paint(UNBIASED_WORLD.sample(900 + index)).image.save(path)
        lines += [json.dumps({"image": path.name, "question": question}) for question in QUESTIONS]
    (folder / f"{BROKEN:02d}.png").write_bytes(b"this is no image")
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return Runs(tmp_path_factory.mktemp("runs"), folder / "prompts.jsonl", ray_folder)


@pytest.fixture(scope="module")
def finished(runs: Runs) -> Path:
    """Folder of a run that was not interrupted."""
    assert "report: " in runs.finish("finished")
    return runs.folder / "finished"


def hashes(run: Path) -> dict[str, Any]:
    """Content hashes of everything a run committed."""
    ledger = Ledger(str(run))
    found: dict[str, Any] = {stage: (ledger.result(1, stage) or {})["sha256"] for stage in ROLLOUT_STAGES}
    files = dict((ledger.result(1, "publish") or {})["files"])
    return found | {"version": files, "metrics": (ledger.result(1, "evaluate") or {})["metrics"]}


def test_the_report_follows_its_schema_and_counts_every_row(finished: Path) -> None:
    found = json.loads((finished / "report.json").read_text())
    jsonschema.validate(found, schema())
    assert [r["rm_version"] for r in found["rounds"]] == [0, 1]
    for rows in found["rounds"][1]["rows"].values():
        assert rows["in"] == rows["kept"] + sum(rows["dropped"].values()) + sum(rows["quarantined"].values())


def test_the_broken_image_is_quarantined_and_counted(finished: Path) -> None:
    rows = json.loads((finished / "report.json").read_text())["rounds"][1]["rows"]["generate"]
    assert rows["quarantined"] == {"image_undecodable": len(QUESTIONS)}
    assert rows["kept"] == (IMAGES - 1) * len(QUESTIONS) * RESPONSES


def test_rows_carry_no_pixels(finished: Path) -> None:
    table = pq.read_table(finished / "round-0001" / "generate" / "part-00000.parquet")
    assert table.nbytes / table.num_rows < 4096


def test_each_expert_inspects_an_image_once(finished: Path) -> None:
    for expert in (finished / "evidence").iterdir():
        keys = [key for shard in expert.iterdir() for key in pq.read_table(shard).column("key").to_pylist()]
        assert len(set(keys)) == IMAGES - 1
        assert len(list(expert.iterdir())) <= 2  # one for each part


def test_a_killed_run_resumes_and_ends_with_the_same_content(runs: Runs, finished: Path) -> None:
    marker = runs.folder / "killed" / "round-0001" / "parts" / "part-00000.json"
    runs.kill_after("killed", marker)
    before = marker.read_bytes()
    runs.finish("killed")
    assert marker.read_bytes() == before
    assert hashes(runs.folder / "killed") == hashes(finished)


def test_a_finished_run_repeats_no_work(runs: Runs, finished: Path) -> None:
    before = hashes(finished)
    output = runs.finish("finished", ITERATE)
    assert hashes(finished) == before
    assert "gather" not in output
    assert "start Ray" not in output


def test_a_changed_configuration_is_refused(runs: Runs, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(iterate.main, *runs.arguments("finished"), "seed=5") == 2
    assert "seed: 0 -> 5" in capsys.readouterr().err


def test_the_published_version_gives_its_canary_score_in_transformers(finished: Path, tmp_path: Path) -> None:
    from vlrm_ray.engines import EngineSettings
    from vlrm_ray.reward.canary import canary_request, check_canary
    from vlrm_ray.reward.transformers_engine import TransformersEngine

    version = tmp_path / "version"
    shutil.copytree(finished / "versions" / "0001", version)
    engine = TransformersEngine(EngineSettings("transformers", str(version), "float32", 512, 8, 64, 0.5, 0, 1))
    (found,) = engine.score([canary_request(str(version), "compact")])
    check_canary(found, str(version), 1, "float32", "transformers")
