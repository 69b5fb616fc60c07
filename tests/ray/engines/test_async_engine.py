"""A real `AsyncLLM` in an actor: single requests at the same time, as correct as the engine for one batch at a time."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RayTaskError

from actors.engine_hosts import PolicyGenerator
from tests.ray.engines.engine_answers import settings
from vlrm_ray.config import asset_path
from vlrm_ray.engines import TOO_LONG, Completion, EngineDied, LoadReport, Request, Sampling
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.preferences.critique import COMPACT

pytestmark = pytest.mark.usefixtures("ray_cluster")
REFUSED = 20
"""Index of the request that is too long."""


@pytest.fixture(scope="module")
def engines(ray_cluster: None) -> Iterator[tuple[Any, Any]]:
    """Actors with the shipped model: one with `AsyncLLM`, one with `LLM`, whose engines have processes of their own as on GPUs."""
    variables = WORKER_ENV | CPU_ENV | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    options = {"num_cpus": 0.25, "max_concurrency": 500, "runtime_env": {"env_vars": variables}}
    found = [
        ray.remote(PolicyGenerator)
        .options(**options)
        .remote(name, replace(settings("vllm"), reproducible=reproducible))
        for name, reproducible in (("async", False), ("serial", True))
    ]
    for actor in found:
        assert ray.get(actor.health.remote(), timeout=600).problem == ""
    yield found[0], found[1]
    for actor in found:
        ray.get(actor.close.remote(), timeout=60)
        ray.kill(actor)


def requests(folder: Path) -> list[Request]:
    made = [Request("Describe the image.", str(folder / f"{i % 4}.png"), seed=i) for i in range(40)]
    made[REFUSED] = replace(made[REFUSED], text="word " * 600)
    return made


def one_by_one(actor: Any, asked: list[Request], sampling: Sampling) -> list[list[Completion]]:
    calls = [actor.generate.remote([request], sampling) for request in asked]
    return [group for groups in ray.get(calls, timeout=300) for group in groups]


@pytest.mark.parametrize("sampling", [Sampling(48), Sampling(48, 1.0, n=4)], ids=["greedy", "four samples"])
def test_requests_sent_one_by_one_get_the_answers_of_a_batch(
    engines: tuple[Any, Any], engine_folder: Path, sampling: Sampling
) -> None:
    continuous, serial = engines
    asked = requests(engine_folder)
    found = one_by_one(continuous, asked, sampling)
    expected = ray.get(serial.generate.remote(asked, sampling), timeout=300)
    assert [answer.refused for answer in found[REFUSED]] == [TOO_LONG] * sampling.n
    assert [[a.text for a in group] for group in found] == [[a.text for a in group] for group in expected]
    assert sum(bool(answer.text) for group in found for answer in group) == 39 * sampling.n
    report = ray.get(continuous.load_report.remote(), timeout=60)
    assert (report.running, report.waiting, report.finished % 40) == (0, 0, 0)


def test_an_engine_answers_reports_while_it_works(engines: tuple[Any, Any], engine_folder: Path) -> None:
    for actor in engines:
        work = actor.generate.remote(requests(engine_folder), Sampling(200, 1.0, n=8))
        reports: list[LoadReport] = []
        while not ray.wait([work], timeout=0.05)[0]:
            reports.append(ray.get(actor.load_report.remote(), timeout=60))
        assert max(report.running for report in reports) >= settings("vllm").max_num_seqs
        assert max(report.unfinished for report in reports) > 100


def test_critiques_and_scores_agree_and_new_weights_are_loaded(engines: tuple[Any, Any], engine_folder: Path) -> None:
    image = str(engine_folder / "0.png")
    critique = Request(COMPACT.prompt("What?", "There is a red circle."), image, prefix=COMPACT.prefix("red circle"))
    score = Request(COMPACT.direct_prompt("What?", "There is a red circle."), image)
    answers, scores = [], []
    for actor in engines:
        answers.append(ray.get(actor.generate.remote([critique], Sampling(120)), timeout=300)[0][0])
        for folder in (None, str(engine_folder / "other"), asset_path("assets:vlm")):
            if folder:
                ray.get(actor.load.remote(folder), timeout=60)
            scores.append(ray.get(actor.score.remote([score]), timeout=60)[0].yes)
    assert answers[0].text == answers[1].text
    assert answers[0].yes == pytest.approx(answers[1].yes, abs=1e-3)
    assert scores[:3] == pytest.approx(scores[3:], abs=1e-3)
    assert scores[0] == pytest.approx(scores[2], abs=1e-6)
    assert abs(scores[0] - scores[1]) > 1e-3


def test_a_critique_that_is_cut_off_is_asked_for_its_judgement(engines: tuple[Any, Any], engine_folder: Path) -> None:
    critique = Request(COMPACT.prompt("What?", "There is a red circle."), str(engine_folder / "0.png"))
    found = [
        ray.get(actor.generate.remote([critique], Sampling(6, judgement="ask")), timeout=300)[0][0] for actor in engines
    ]
    for answer in found:
        assert answer.asked
        assert answer.text.endswith((" Judgement: Yes", " Judgement: No"))
        assert answer.yes > 0
        assert answer.no > 0
    assert found[0].text == found[1].text


def test_an_engine_whose_process_is_killed_is_started_again(engines: tuple[Any, Any], engine_folder: Path) -> None:
    actor, asked = engines[0], requests(engine_folder)
    expected = one_by_one(actor, asked, Sampling(48))
    process = psutil.Process(ray.get(actor.health.remote(), timeout=60).pid)
    (core,) = (child for child in process.children(recursive=True) if "EngineCore" in child.name())
    work = [actor.generate.remote([request], Sampling(48)) for request in asked * 5]  # some are still being prepared
    os.kill(core.pid, signal.SIGKILL)
    assert [groups[0] for groups in ray.get(work, timeout=300)] == expected * 5
    assert process.is_running()


@pytest.mark.parametrize("kind", [0, 1], ids=["async", "serial"])
def test_an_engine_whose_process_is_killed_while_it_loads_weights_is_started_again(
    kind: int, engines: tuple[Any, Any], engine_folder: Path
) -> None:
    """vLLM waits for an answer that never comes then."""
    actor, asked = engines[kind], requests(engine_folder)[:4]
    expected = one_by_one(actor, asked, Sampling(48))
    process = psutil.Process(ray.get(actor.health.remote(), timeout=60).pid)
    (core,) = (child for child in process.children(recursive=True) if "EngineCore" in child.name())
    core.suspend()
    loading = actor.load.remote(asset_path("assets:vlm"))
    assert not ray.wait([loading], timeout=2)[0]
    core.kill()
    ray.get(loading, timeout=300)
    assert one_by_one(actor, asked, Sampling(48)) == expected


def test_an_engine_that_is_closed_refuses_no_request_and_answers_none_in_part(
    engines: tuple[Any, Any], engine_folder: Path
) -> None:
    """The last test of the file: it closes an engine that all of them share."""
    actor = engines[0]
    asked = [request for index, request in enumerate(requests(engine_folder)) if index != REFUSED]
    expected = one_by_one(actor, asked, Sampling(48))
    work = [actor.generate.remote([request], Sampling(48)) for request in asked * 8]
    ray.wait(work, num_returns=4, timeout=300)  # the others run, are prepared, or wait
    ray.get(actor.close.remote(), timeout=60)
    answers: list[tuple[int, list[Completion]]] = []
    for index, reference in enumerate(work):
        with suppress(RayTaskError, EngineDied):
            answers.append((index % len(asked), ray.get(reference, timeout=60)[0]))
    assert 4 <= len(answers) < len(work)
    assert all(answer == expected[index] for index, answer in answers)
