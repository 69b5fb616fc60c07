"""The background loader: results in order and ahead of time, errors where they belong, and nothing goes on unused."""

import subprocess
import sys
import threading
import time

import pytest

from vlrm_ray.errors import StorageError
from vlrm_ray.reward.training.loader import BackgroundLoader


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def slow_for_even(item: int) -> int:
        time.sleep(0.01 * (item % 2 == 0))
        return -item

    load = BackgroundLoader(slow_for_even, workers, 10)
    assert list(load(range(20))) == [-item for item in range(20)]
    assert list(load([])) == []


def test_an_exception_is_raised_where_its_result_was_due() -> None:
    def fails_at_two(item: int) -> int:
        if item == 2:
            raise KeyError(item)
        return item

    results = BackgroundLoader(fails_at_two, 2, 10)(range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)


def test_results_are_prepared_while_the_consumer_works_and_not_too_many() -> None:
    started = list[int]()
    results = BackgroundLoader(started.append, workers=2, timeout=10, ahead=2)(range(100))
    next(results)
    deadline = time.monotonic() + 10
    while len(started) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert started == [0, 1, 2, 3, 4]
    for _ in results:
        pass


def test_waiting_counts_and_working_does_not() -> None:
    load = BackgroundLoader[float, None](time.sleep, workers=1, timeout=60)
    results = load([0.2, 0.0])
    next(results)
    waited_first = load.waited
    time.sleep(1)
    next(results)
    assert waited_first >= 0.19  # the results may be begun a moment before somebody waits
    assert load.waited - waited_first < 1


def test_items_are_given_up_when_the_consumer_stops() -> None:
    """Threads end after what they are doing; nothing that waits is begun."""
    gate, started = threading.Event(), list[int]()

    def work(item: int) -> int:
        started.append(item)
        if item:
            gate.wait(10)
        return item

    results = BackgroundLoader(work, workers=1, timeout=10, ahead=4)(range(10))
    next(results)
    while len(started) < 2:
        time.sleep(0.01)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
    threading.Timer(0.05, gate.set).start()
    del results  # as when a consumer raises
    for thread in threads:
        thread.join(10)
    assert started == [0, 1]


def test_an_item_that_takes_too_long_ends_the_attempt_with_one_line_at_once() -> None:
    """The thread is stuck all the while. The failure is one of storage, after which the training is tried again."""
    gate = threading.Event()
    results = BackgroundLoader[int, bool](lambda item: gate.wait(30), workers=1, timeout=0.1)([1])
    start = time.monotonic()
    try:
        with pytest.raises(
            StorageError, match=r"not ready within train.step_timeout=0.1 s; look at the storage of the images"
        ):
            next(results)
        assert time.monotonic() - start < 10
    finally:
        gate.set()


def test_a_process_can_end_while_a_thread_is_stuck() -> None:
    program = """
import time
from vlrm_ray.reward.training.loader import BackgroundLoader
next(BackgroundLoader(time.sleep, workers=1, timeout=0.1)([1000]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "StorageError: the images and texts of a training step were not ready" in ended.stderr


def test_a_timeout_inside_the_function_is_its_own_error() -> None:
    def silent(item: int) -> int:
        raise TimeoutError("the bucket does not answer")

    with pytest.raises(TimeoutError, match="the bucket does not answer"):
        next(BackgroundLoader(silent, workers=1, timeout=10)([1]))


def test_few_results_wait_for_a_slow_consumer_whatever_the_number_of_threads() -> None:
    """Each may be a whole step: one for each thread that works, and one more."""
    started = list[int]()
    results = BackgroundLoader(started.append, workers=6, timeout=10)(range(100))
    next(results)
    deadline = time.monotonic() + 10
    while len(started) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(started) == 1 + 6 + 1
