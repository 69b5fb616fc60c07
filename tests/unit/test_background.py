"""Work that the driver repeats in the background: it goes on after errors, and has no say in how a run ends."""

import logging
import threading
import time

import pytest

from vlrm_ray.pipeline import background
from vlrm_ray.pipeline.background import repeated


class Work:
    """Counts its calls; some of them raise."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> None:
        self.calls += 1
        if self.errors and (error := self.errors.pop(0)):
            raise error


def test_work_is_done_at_an_interval_and_once_more_at_the_end() -> None:
    work = Work()
    with repeated(work, 0.02, "sampling"):
        while work.calls < 3:
            time.sleep(0.01)
        before = work.calls
    assert work.calls > before
    with repeated(work := Work(), 1000.0, "sampling"):
        pass
    assert work.calls == 1


def test_work_that_raises_is_done_again_and_each_kind_of_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(OSError("no route"), OSError("no route"), KeyError("a"), None, OSError("again"))
    with caplog.at_level(logging.WARNING), repeated(work, 0.01, "sampling the engines"):
        while work.errors:
            time.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == [
        "sampling the engines has failed and is tried again: OSError: no route",
        "sampling the engines has failed and is tried again: KeyError: 'a'",
    ]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ValueError, None])
def test_an_error_of_the_last_call_replaces_neither_a_result_nor_an_interrupt(
    ending: type[BaseException] | None,
) -> None:
    def body() -> str:
        with repeated(Work(RuntimeError("board lost")), 1000.0, "sampling"):
            if ending:
                raise ending
            return "result"
        raise AssertionError

    if ending:
        with pytest.raises(ending):
            body()
    else:
        assert body() == "result"


def test_the_end_does_not_wait_long_for_work_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray job stop` kills a driver after 60 s."""
    assert background.END_SECONDS < 30
    monkeypatch.setattr(background, "END_SECONDS", 0.1)
    calls, free = list[int](), threading.Event()

    def hang() -> None:
        calls.append(1)
        free.wait(30)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), repeated(hang, 0.01, "sampling"):
        while not calls:
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 5
    free.set()
    time.sleep(0.1)
    assert len(calls) == 1  # once nobody waits for it, it is not called again: what it asks may be gone
