"""Progress lines: what is finished, how long the rest takes, and when that was."""

import io
import re
import threading
from datetime import UTC, datetime

import pytest
from rich.console import Console

from vlrm_ray.pipeline import progress
from vlrm_ray.pipeline.progress import Meter, Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def meter(total: int, already: int = 0) -> Meter:
    return Meter(Progress(), "gather", total, "prompts", lambda: {"generate": 7}, already)


def test_before_the_first_part_nothing_is_estimated(clock: list[float]) -> None:
    counted = meter(80)
    clock[0] += 30
    assert counted._line() == "  gather: 30 s, none of 80 prompts finished yet, generate 7"


def test_the_rate_does_not_count_the_time_before_the_first_part(clock: list[float]) -> None:
    counted = meter(100)
    clock[0] += 60
    counted.add(20)
    assert counted._line() == "  gather: 60 s, 20 of 100 prompts, generate 7"
    clock[0] += 10
    counted.add(40)
    assert counted._line() == "  gather: 70 s, 60 of 100 prompts, 4.0/s, about 10 s left, generate 7"


def test_parts_of_an_earlier_session_do_not_count_for_the_rate(clock: list[float]) -> None:
    """Neither they, nor the time until the first part of this one."""
    counted = meter(100, already=60)
    clock[0] += 90
    assert counted._line() == "  gather: 90 s, 60 of 100 prompts, generate 7"
    counted.add(10)
    assert "left" not in counted._line()
    clock[0] += 10
    counted.add(10)
    assert "80 of 100 prompts, 1.0/s, about 20 s left" in counted._line()


def test_without_a_total_only_the_time_is_shown(clock: list[float]) -> None:
    counted = meter(0)
    counted.add(1)
    assert counted._line() == "  gather: 0 s, generate 7"


def test_lines_of_a_log_have_the_time_of_day_in_utc() -> None:
    """So they can be compared with the logs of Ray and of the storage, also after a run was resumed."""
    text = io.StringIO()
    before = datetime.now(UTC).replace(microsecond=0)
    Progress(Console(file=text)).log("round 1: train ...")
    when, _, line = text.getvalue().partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", when)
    assert before <= datetime.fromisoformat(when) <= datetime.now(UTC)
    assert line == "round 1: train ...\n"


def test_lines_on_a_terminal_have_the_time_since_the_start(clock: list[float]) -> None:
    text = io.StringIO()
    told = Progress(Console(file=text, force_terminal=True, no_color=True, highlight=False))
    clock[0] += 125
    told.log("round 1: train ...")
    assert text.getvalue() == "[02:05] round 1: train ...\n"


class Stop(threading.Event):
    """Counts the pauses of a ticker, which take no time, for a day."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock, self.pauses = clock, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        self.clock[0] += timeout
        return self.clock[0] > 100 + 86_400


def test_a_stage_of_a_day_does_not_fill_a_log(clock: list[float]) -> None:
    stage = meter(80)
    stage.progress = Progress(Console(file=io.StringIO()))
    stage.tick(stop := Stop(clock))
    assert stop.pauses[:60] == [10.0] * 60  # ten minutes
    assert set(stop.pauses[60:]) == {60.0}
    assert len(stop.pauses) < 1500


def test_a_terminal_is_updated_every_second(clock: list[float]) -> None:
    stage = meter(80)
    stage.progress = Progress(Console(file=io.StringIO(), force_terminal=True))
    stage.tick(stop := Stop(clock))
    assert set(stop.pauses) == {1.0}
