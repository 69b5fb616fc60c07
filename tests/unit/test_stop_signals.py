"""Ctrl-C and SIGTERM stop a program in one way: it says so at once and cleans up. A second Ctrl-C ends it wherever it is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vlrm_ray import errors
from vlrm_ray.errors import Terminated, stopped_by_signals

PROGRAM = """
import ctypes, sys, time
from vlrm_ray.errors import run_as_program
def main():
    try:
        print("working", flush=True)
        time.sleep(600)
    finally:
        print("cleaning up", flush=True)
        %s
run_as_program(main, resumes=%s)
"""
UNTIL_TOLD = "sys.stdin.readline()"
IN_A_LIBRARY = "ctypes.PyDLL(None).sleep(600)"
"""Code of a library that looks at no signal: Python calls no handler meanwhile."""


def heed_interrupts() -> None:
    """As in a terminal: a shell may have started the tests in the background, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stopped(number: int, cleanup: str, *, resumes: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A program that has been stopped by a signal while it worked, and now cleans up."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM % (cleanup, resumes)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=heed_interrupts, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            assert process.stdout.readline() == "working\n"
            process.send_signal(number)
            assert process.stdout.readline() == "cleaning up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "resumes", "status", "first", "last"),
    [
        (signal.SIGINT, True, 130, "stopping; a second Ctrl-C ends it at once, and the run can be resumed either way",
         "interrupted; run the same command again to resume"),
        (signal.SIGINT, False, 130, "stopping; a second Ctrl-C ends it at once", "interrupted"),
        (signal.SIGTERM, True, 143, "stopping on SIGTERM", "terminated; run the same command again to resume"),
        (signal.SIGTERM, False, 143, "stopping on SIGTERM", "terminated"),
    ],
)  # fmt: skip
def test_a_program_says_at_once_that_it_stops_and_in_the_end_how_to_go_on(
    number: int, resumes: bool, status: int, first: str, last: str
) -> None:
    with stopped(number, UNTIL_TOLD, resumes=resumes) as process:
        assert process.stderr
        assert process.stderr.readline() == f"{first}\n"
        _, rest = process.communicate("go on\n", timeout=100)
        assert (process.returncode, rest) == (status, f"{last}\n")


def test_a_second_ctrl_c_ends_a_program_wherever_it_is() -> None:
    with stopped(signal.SIGINT, IN_A_LIBRARY) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == -signal.SIGINT


def test_a_second_ctrl_c_ends_a_program_whose_threads_have_not_ended() -> None:
    """As experts that still look at a batch of images."""
    thread = "import threading; threading.Thread(target=time.sleep, args=(600,)).start()"
    with stopped(signal.SIGINT, thread) as process:
        assert process.stderr
        assert [process.stderr.readline().partition(";")[0] for _ in range(2)] == ["stopping", "interrupted"]
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=100)
        assert (process.returncode, rest) == (-signal.SIGINT, "")


def test_sigterm_to_a_program_that_stops_does_not_disturb_it() -> None:
    """Slurm sends it to all processes of a job, to which the job's script passes it on."""
    with stopped(signal.SIGTERM, UNTIL_TOLD) as process:
        process.send_signal(signal.SIGTERM)
        _, lines = process.communicate("go on\n", timeout=100)
        assert (process.returncode, lines.splitlines()) == (
            143,
            ["stopping on SIGTERM", "terminated; run the same command again to resume"],
        )


@pytest.fixture
def handlers() -> Iterator[None]:
    """Ctrl-C raises here, and the handlers are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heed_interrupts()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    """Send a signal to this process and wait for its handler."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_raises_and_the_handlers_are_put_back(number: int, raised: type[BaseException]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(raised) as caught, stopped_by_signals():
        send(number)
    assert type(caught.value) is raised
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.usefixtures("handlers")
def test_what_an_inner_context_has_received_counts_in_the_outer_one() -> None:
    """As on a cluster: the run cleans up after it has left the cluster."""
    with pytest.raises(Terminated), stopped_by_signals():
        try:
            with stopped_by_signals():
                send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM)  # is the same one
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


@pytest.mark.usefixtures("handlers")
def test_sigterm_much_later_stops_a_program_that_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may have caught the first exception."""
    monkeypatch.setattr(errors, "SAME_SIGNAL_SECONDS", 0.0)
    with pytest.raises(Terminated), stopped_by_signals():
        with pytest.raises(Terminated):
            send(signal.SIGTERM)
        send(signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
def test_ignored_interrupts_stay_ignored() -> None:
    """A shell has started the program in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(Terminated), stopped_by_signals():
        send(signal.SIGINT)
        send(signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
def test_an_interrupt_by_ray_in_place_of_the_handlers_exception_still_counts_as_termination() -> None:
    with pytest.raises(Terminated), stopped_by_signals():
        try:
            send(signal.SIGTERM)
        except Terminated:
            raise KeyboardInterrupt from None
    with pytest.raises(KeyboardInterrupt) as caught, stopped_by_signals():
        raise KeyboardInterrupt
    assert not isinstance(caught.value, Terminated)
