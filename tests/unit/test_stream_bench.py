"""The figures of `jobs/bench.py stream`: what counts as the steady state, and how its arguments are checked."""

import sys

import pytest

from jobs import bench
from jobs.benches import cpu_time
from jobs.benches.stream import _steady_state, verify_rate
from vlrm_ray.errors import UserError


def history(start: float, waves: int, slots: int = 2) -> list[tuple[float, int]]:
    """An engine that fills all of its slots `waves` times, for a second each."""
    events = [(start + wave + end, change) for wave in range(waves) for end, change in ((0, 1), (1, -1))]
    return [event for event in events for _ in range(slots)]


def test_engines_that_are_always_full_are_fully_busy() -> None:
    rate, busy = _steady_state([history(0, 40), history(0, 40)], 4)
    assert busy == pytest.approx(1)
    assert rate == pytest.approx(4)


def test_the_time_after_an_engine_has_run_out_of_requests_does_not_count() -> None:
    rate, busy = _steady_state([history(0, 20), history(0, 80)], 4)
    assert (busy, rate) == (pytest.approx(1), pytest.approx(4))


def test_an_engine_that_waits_in_between_counts_as_idle() -> None:
    pausing = history(0, 20) + history(40, 40)
    _, busy = _steady_state([pausing, history(0, 80)], 4)
    assert busy == pytest.approx(0.84, abs=0.03)


def test_cpu_seconds_of_processes_that_start_and_end_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(role == cpu_time.OWN for _, role in cpu_time.cpu_seconds())
    seen = iter(
        [
            {(1, "Commit"): 1.0, (2, "Commit"): 2.0},
            {(1, "Commit"): 2.0, (2, "Commit"): 2.5, (4, "Ray"): 9.0},
            {(1, "Commit"): 3.0, (4, "Ray"): 9.5},
        ]
    )
    monkeypatch.setattr(cpu_time, "cpu_seconds", lambda: next(seen))
    spent = cpu_time.CpuTime()
    spent.update()  # too early
    spent._at -= 1
    spent.update()
    assert spent.by_role() == {"Commit": 2.5, "Ray": 0.5}


def test_the_verify_stage_is_measured() -> None:
    assert verify_rate(4) > 1


@pytest.mark.parametrize("size", ["many", "0", "prompts.per_round=8"])
def test_sizes_are_numbers_of_prompts(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "stream", size])
    with pytest.raises(UserError, match=f"stream {size}: expected numbers of prompts"):
        bench.main()
