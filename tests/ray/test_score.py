"""A published reward model is called in three ways, which give the same reward: Python, `jobs/score.py`, and vLLM's server."""

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from jobs import score as program
from tests.published import QUESTION, publish
from tests.ray.programs import ROOT, TIMEOUT, exit_status, run_program, started_program
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.reward import RewardModel, Score
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD

PAGE = (ROOT / "docs" / "scoring.md").read_text()
FOLDER, ADDRESS = "runs/scenes/versions/0003", "http://127.0.0.1:8000"
RESPONSE = "There is a red circle."
ROWS = 20
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version `rm`, a file `rows.jsonl` with a broken image and a missing response, and the image of the page."""
    folder = tmp_path_factory.mktemp("score")
    publish(folder / "rm", temperature=3.0)
    rows: list[dict[str, Any]] = []
    for index in range(ROWS):
        paint(UNBIASED_WORLD.sample(900 + index)).image.save(folder / f"{index}.png")
        color = ("red", "blue", "green")[index % 3]
        rows.append(
            {"id": index, "image": f"{index}.png", "question": QUESTION, "response": f"There is a {color} circle."}
        )
    (folder / "3.png").write_bytes(b"broken")
    del rows[5]["response"]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "photo.png").write_bytes((folder / "0.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return RewardModel.load(str(folder / "rm"), device="cpu")


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        "--rm", str(folder / "rm"), "--data", str(folder / "rows.jsonl"), "--out", str(folder / "scores.jsonl"), "--critiques",
        *more, "critic.engine.kind=transformers", "critic.engine.actors=1", "cluster.dashboard=false",
    ]  # fmt: skip


def test_a_killed_program_resumes_and_gives_the_rewards_of_the_python_interface(
    folder: Path, model: RewardModel, ray_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job, parts = str(ROOT / "jobs" / "score.py"), folder / "scores.jsonl.parts"
    first = parts / "part-00000.parquet"
    with started_program(job, *arguments(folder), RAY_TMPDIR=ray_folder) as process:
        deadline = time.monotonic() + TIMEOUT
        while not first.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the first part was not written"
            time.sleep(0.05)
    (folder / "scores.jsonl").unlink(missing_ok=True)  # if the program was faster than the signal
    (parts / "part-00002.parquet").unlink(missing_ok=True)
    before = first.stat().st_mtime_ns
    done = run_program(job, *arguments(folder), RAY_TMPDIR=ray_folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{ROWS} rows, {ROWS - 2} scored, 2 without reward" in done.stdout
    assert "resumed: " in done.stdout
    assert first.stat().st_mtime_ns == before

    found = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == list(range(ROWS))
    assert (found[3]["reason"], found[5]["reason"]) == ("image_undecodable", "response_missing")
    good = [row for row in found if not row["reason"]]
    scores = model.score(
        [folder / row["image"] for row in good],
        [row["question"] for row in good],
        [row["response"] for row in good],
        critiques=True,
    )
    assert [row["reward"] for row in good] == pytest.approx([score.reward for score in scores], abs=TOLERANCE)
    assert [tuple(row["critiques"]) for row in good] == [score.critiques for score in scores]

    assert exit_status(program.main, *arguments(folder, "--k", "2")) == 2
    assert "k: 1 -> 2" in capsys.readouterr().err


def blocks(language: str) -> list[str]:
    """Code blocks of the page, without continuations."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [block.replace("\\\n", " ") for block in found]


def serve_command(folder: Path, port: int) -> list[str]:
    """The page's command, as the installed build of vLLM takes it; the page has the form for the CPU build too."""
    (line,) = [block for block in blocks("sh") if block.startswith("vllm serve")]
    words = shlex.split(line.replace(FOLDER, str(folder / "rm")).replace("--port 8000", f"--port {port}"))
    try:
        version("vllm")
    except PackageNotFoundError:
        assert "python -m vllm.entrypoints.openai.api_server --model FOLDER --enforce-eager" in PAGE
        words[:2] = ["-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--model"]
    else:
        words[:1] = ["-m", "vllm.entrypoints.cli.main"]
    return [sys.executable, *words]


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """Address of vLLM's server on loopback with the published folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shim = str(ROOT / "vlrm_ray" / "torchvision_shim" / "child")
    environment = {**os.environ, **WORKER_ENV, **CPU_ENV, "VLLM_PLUGINS": "", "HF_HUB_OFFLINE": "1", "PYTHONPATH": shim}
    environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(serve_command(folder, port), env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not is_up(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_up(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def reward_of_the_page(program: str, folder: Path, server: str) -> float:
    """The reward that a program of the page computes, with this model, image and server in place of the page's."""
    names: dict[str, Any] = {}
    for text, value in ((FOLDER, str(folder / "rm")), ("photo.png", str(folder / "photo.png")), (ADDRESS, server)):
        assert text in program
        program = program.replace(text, value)
    exec(program, names)
    return float(names["reward"])


def test_one_request_to_vllm_gives_the_reward_of_the_python_interface(
    folder: Path, model: RewardModel, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = [block for block in blocks("python") if "urllib.request" in block]
    (score,) = model.score([folder / "photo.png"], [QUESTION], [RESPONSE], critiques=True)
    assert reward_of_the_page(program, folder, server) == pytest.approx(score.reward, abs=TOLERANCE)
    assert score.critiques[0] in capsys.readouterr().out


def test_one_request_for_one_token_gives_the_judgement_without_a_critique(
    folder: Path, model: RewardModel, server: str
) -> None:
    (program,) = [block for block in blocks("python") if "urllib.request" in block]
    changes = {'card["ask"]': 'card["ask_direct"]', ', hint=""': "", '"max_tokens": 120': '"max_tokens": 1'}
    changes["power = 1 / json"] = "power = 1 if folder else 1 / json"  # not calibrated
    for text, value in changes.items():
        assert text in program
        program = program.replace(text, value)
    (score,) = model.score([folder / "photo.png"], [QUESTION], [RESPONSE], k=0)
    assert isinstance(score, Score)
    assert reward_of_the_page(program, folder, server) == pytest.approx(score.reward, abs=TOLERANCE)


@pytest.mark.parametrize(("k", "max_tokens"), [(1, None), (0, None), (1, 23)])
def test_a_connected_model_gives_the_rewards_of_a_loaded_one(
    folder: Path, server: str, k: int, max_tokens: int | None
) -> None:
    """With 23 tokens critiques end before their judgement, which the server is then asked for. A long item is refused alone."""
    responses = [RESPONSE, "There is a blue star. <|end|>", "A sign. " * 400]
    images, questions = [folder / "photo.png"] * 3, [QUESTION] * 3
    loaded = RewardModel.load(str(folder / "rm"), device="cpu", max_tokens=max_tokens)
    connected = RewardModel.connect(server, str(folder / "rm"), max_tokens=max_tokens)
    try:
        expected = loaded.score(images, questions, responses, k, critiques=k > 0)
        found = connected.score(images, questions, responses, k, critiques=k > 0)
        awaited = asyncio.run(connected.score_async(images, questions, responses, k, critiques=k > 0))
    finally:
        connected.close()
        loaded.close()
    assert [score.reason for score in found] == ["", "", "longer_than_the_model_takes"]
    assert [score.reason for score in expected] == [score.reason for score in found]
    assert [score.critiques for score in expected] == [score.critiques for score in found]
    assert [(score.reason, score.critiques) for score in awaited] == [
        (score.reason, score.critiques) for score in found
    ]
    assert [score.reward for score in awaited[:2]] == pytest.approx(
        [score.reward for score in found[:2]], abs=TOLERANCE
    )
    for one, other in zip(expected[:2], found[:2], strict=True):
        assert other.reward == pytest.approx(one.reward, abs=TOLERANCE)
        assert other.label_mass == pytest.approx(one.label_mass, abs=TOLERANCE)


def test_several_critiques_of_a_connected_model_are_sampled_and_repeatable(folder: Path, server: str) -> None:
    connected = RewardModel.connect(server, str(folder / "rm"), sampling_temperature=1.0)
    try:
        first, again = (
            connected.score([folder / "photo.png"], [QUESTION], [RESPONSE], 4, critiques=True)[0] for _ in range(2)
        )
    finally:
        connected.close()
    assert len(set(first.critiques)) > 1
    assert first.critiques == again.critiques
