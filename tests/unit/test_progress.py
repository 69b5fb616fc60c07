"""Progress lines: what is finished, and how long the rest takes."""

import pytest

from vlrm_ray.pipeline import progress
from vlrm_ray.pipeline.progress import Meter, Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def meter(total: int) -> Meter:
    return Meter(Progress(), progress._Stage("gather", "prompts", total, start=100.0), lambda: {"generate": 7})


def test_before_the_first_part_nothing_is_estimated(clock: list[float]) -> None:
    clock[0] += 30
    assert meter(80)._line() == "  gather: 30 s, none of 80 prompts finished yet, generate 7"


def test_the_rate_does_not_count_the_time_before_the_first_part(clock: list[float]) -> None:
    counted = meter(100)
    clock[0] += 60
    counted.add(20)
    assert counted._line() == "  gather: 60 s, 20 of 100 prompts, generate 7"
    clock[0] += 10
    counted.add(40)
    assert counted._line() == "  gather: 70 s, 60 of 100 prompts, 4.0/s, about 10 s left, generate 7"


def test_parts_of_an_earlier_session_do_not_count_for_the_rate(clock: list[float]) -> None:
    counted = meter(100)
    counted.add(80)
    clock[0] += 10
    counted.add(10)
    assert "1.0/s, about 10 s left" in counted._line()


def test_without_a_total_only_the_time_is_shown(clock: list[float]) -> None:
    counted = meter(0)
    counted.add(1)
    assert counted._line() == "  gather: 0 s, generate 7"
