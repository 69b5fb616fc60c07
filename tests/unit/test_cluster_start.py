"""Starting a local Ray cluster on a busy machine, and joining one that refuses. Ray itself is replaced."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psutil
import pytest
import ray

from vlrm_ray import config as configuration
from vlrm_ray.errors import Terminated, UserError
from vlrm_ray.pipeline import cluster, resource_plan

SHIPPED = Path(__file__).parents[2] / "jobs" / "configs" / "qwen2_5_vl_7b.yaml"
LATE = "The current node timed out during startup. This could happen because the GCS has become overloaded.\nMore"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}, "Labels": {}}])
    with mock.patch.dict(os.environ):
        os.environ.pop("RAY_ADDRESS", None)
        yield


def fail(times: int, error: Exception, started: list[psutil.Process]) -> Callable[..., Any]:
    """A `ray.init` that starts a process and fails, and that succeeds once it has failed `times` times."""

    def init(**_: Any) -> SimpleNamespace:
        started.append(psutil.Process(subprocess.Popen(["sleep", "600"]).pid))
        if len(started) <= times:
            raise error
        return SimpleNamespace(dashboard_url=None, address_info={"session_dir": "/ray/session"})

    return init


def connect(*overrides: str) -> list[str]:
    """Lines that are printed while a driver connects."""
    lines: list[str] = []
    with cluster.connected(configuration.load(None, overrides), lines.append):
        return lines


def test_a_start_that_misses_rays_deadline_is_retried_without_the_processes_it_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[psutil.Process] = []
    monkeypatch.setattr(ray, "init", fail(1, Exception(LATE), started))
    lines = connect()
    failed, running = started
    assert not failed.is_running()
    assert running.is_running()
    running.kill()
    assert lines == [
        f"Ray did not start: {LATE.splitlines()[0]}; retrying (attempt 2 of {cluster.START_ATTEMPTS})",
        "Ray's log files are in /ray/session/logs",
    ]


def test_a_start_that_keeps_failing_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[psutil.Process] = []
    monkeypatch.setattr(ray, "init", fail(99, RuntimeError(), started))
    with pytest.raises(UserError, match=rf"^Ray did not start in {cluster.START_ATTEMPTS} attempts: RuntimeError; .*$"):
        connect()
    assert len(started) == cluster.START_ATTEMPTS
    assert not any(process.is_running() for process in started)


def test_a_cluster_that_cannot_be_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("ray cannot connect\nMore")

    monkeypatch.setattr(cluster, "prepare_to_join", lambda address, source: address)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        UserError, match=r"^the Ray cluster at 192\.0\.2\.1:6379 cannot be joined: ray cannot connect; .*$"
    ):
        connect("cluster.address=192.0.2.1:6379")


def test_rays_reason_for_not_joining_is_told_to_its_end_where_the_remedy_is(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "Use RAY_OVERRIDE_JOB_RUNTIME_ENV=1"

    def init(**_: Any) -> None:
        raise ValueError(f"Failed to merge the Job's runtime env {'x' * 900} {remedy}")

    monkeypatch.setattr(cluster, "prepare_to_join", lambda address, source: address)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=remedy):
        connect("cluster.address=192.0.2.1:6379")


def test_engines_sample_without_a_compiler_for_cuda() -> None:
    assert cluster.environment(configuration.load(None, []))["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


def test_the_size_that_a_cluster_can_grow_to_is_that_of_the_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own answer comes from a key that none of its autoscalers writes, so it is not asked."""
    state = SimpleNamespace(get_max_resources_from_cluster_config=lambda: {"CPU": 64, "GPU": 8})
    monkeypatch.setattr(ray._private.state, "state", state)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    lines: list[str] = []
    needs_gpu = configuration.load(None, ["critic.engine.gpus=1"])
    for size in ("CPU=64,GPU=8", " CPU = 64, GPU = 8,"):
        monkeypatch.setenv("VLRM_CLUSTER_MAX", size)
        cluster._check_size(needs_gpu, "the cluster", lines.append)
    for wrong in ("64", "CPU=64;GPU=8", "cpu=64,gpu=8", "GPU"):
        monkeypatch.setenv("VLRM_CLUSTER_MAX", wrong)
        with pytest.raises(UserError, match=f"VLRM_CLUSTER_MAX='{wrong}' cannot be read"):
            cluster._check_size(needs_gpu, "the cluster", lines.append)
    monkeypatch.delenv("VLRM_CLUSTER_MAX")
    with pytest.raises(UserError, match="needs 2 GPU at the same time but the cluster has 0"):
        cluster._check_size(needs_gpu, "the cluster", lines.append)


def test_a_run_whose_engines_may_outgrow_the_cluster_is_told_so_and_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 8 train workers the 7B configuration needs 13 GPUs; 4 generators, 6 critics and they are 18."""
    config = configuration.load(
        SHIPPED, ["policy.engine.max_actors=4", "critic.engine.max_actors=6", "train.workers=8"]
    )
    assert resource_plan.peak(config)[1] == 13
    assert resource_plan.largest(config)[1] == 18
    counts = {row[0]: row[1] for row in resource_plan.table(config)}
    assert (counts["policy generator"], counts["critique writer"], counts["train worker"]) == ("2 to 4", "3 to 6", "8")
    for limit, told in (("CPU=384,GPU=17", ["18 GPU, of 17 in VLRM_CLUSTER_MAX"]), ("CPU=384,GPU=18", [])):
        monkeypatch.setenv("VLRM_CLUSTER_MAX", limit)
        lines: list[str] = []
        cluster._check_size(config, "the cluster", lines.append)
        assert len(lines) == len(told)
        assert all(text in line for text, line in zip(told, lines, strict=True))


SHARED = ("critic.engine.gpus=1", "policy.engine.gpus=1", "policy.engine.actors=5", "cluster.start_timeout=1800")
"""Plan that needs 7 GPUs."""


@pytest.mark.parametrize(
    ("free", "told"),
    [
        ({"CPU": 15.5, "GPU": 3.0}, ["7 GPU, 3 are free now: waiting"]),
        ({"CPU": 0.5}, ["7 GPU, 0 are free now; ", " CPU, 0.5 are free now: waiting"]),
        ({"CPU": 16.0, "GPU": 8.0}, []),
    ],
)
def test_a_run_says_what_it_waits_for_on_a_busy_cluster(
    free: dict[str, float], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan fits on the cluster, whose GPUs another run has. Ray starts engines when they are free, and says nothing."""
    monkeypatch.setattr(cluster, "prepare_to_join", lambda address, source: address)
    monkeypatch.setattr(ray, "init", lambda **_: SimpleNamespace(dashboard_url=None, address_info={}))
    size = {"CPU": 16.0, "GPU": 8.0}
    monkeypatch.setattr(ray, "cluster_resources", lambda: size)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": size, "Labels": {}}])
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    lines = connect(*SHARED, "cluster.address=192.0.2.1:6379")
    assert len(lines) == bool(told)
    assert all(text in line and "cluster.start_timeout=1800 s" in line for line in lines for text in told)
    monkeypatch.setenv("VLRM_CLUSTER_MAX", "CPU=16,GPU=8")  # then the autoscaler adds nodes
    assert connect(*SHARED, "cluster.address=192.0.2.1:6379") == []


def test_a_driver_has_its_own_handler_of_sigterm_again_after_ray_has_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> SimpleNamespace:
        signal.signal(signal.SIGTERM, lambda number, frame: os.abort())
        return SimpleNamespace(dashboard_url=None, address_info={})

    monkeypatch.setattr(ray, "init", init)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), cluster.connected(configuration.load(None, []), lambda _: None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_while_ray_starts_ends_a_run_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's handler is set then, which exits with the number of the signal."""

    def init(**_: Any) -> None:
        raise SystemExit(signal.SIGTERM.value)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Terminated), cluster.connected(configuration.load(None, []), lambda _: None):
        pass
