"""The times and the CPU seconds of a stage."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from vlrm_ray.pipeline import stage_clock
from vlrm_ray.pipeline.stage_clock import StageClock

WORK = "import time\nwhile time.process_time() < 1: pass"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[StageClock]:
    monkeypatch.setattr(stage_clock, "SAMPLE_SECONDS", 0.05)
    monkeypatch.setattr(stage_clock, "NODE_PROCESS", psutil.Process().name())
    clock = StageClock()
    yield clock
    clock.close()


def test_cpu_seconds_are_those_of_this_process_and_its_children_also_of_ended_ones(clock: StageClock) -> None:
    start = clock.start()
    subprocess.run([sys.executable, "-c", WORK], check=True)
    times = clock.times(start)
    assert 0.7 < times["cpu_seconds"] < times["seconds"] + 1
    assert times["ended"] - times["began"] == pytest.approx(times["seconds"])
    assert times["ended"] == pytest.approx(time.time(), abs=5)


def test_a_stage_does_not_pay_for_what_was_done_before_it(clock: StageClock) -> None:
    subprocess.run([sys.executable, "-c", WORK], check=True)
    assert clock.times(clock.start())["cpu_seconds"] < 0.5


def test_on_a_cluster_of_others_no_cpu_seconds_are_told(monkeypatch: pytest.MonkeyPatch, clock: StageClock) -> None:
    monkeypatch.setattr(stage_clock, "NODE_PROCESS", "no such process")
    joined = StageClock()
    assert set(joined.times(joined.start())) == {"seconds", "began", "ended"}
    joined.close()
