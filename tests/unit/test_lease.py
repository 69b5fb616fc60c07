"""The lease of a run outlives errors of the storage, and ends the run when it is lost."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vlrm_ray.errors import LeaseLost, StorageError, UserError
from vlrm_ray.store import folder
from vlrm_ray.store import lease as lease_module
from vlrm_ray.store.lease import RENEW_SECONDS, RETRY_SECONDS, DriverLease, Lease
from vlrm_ray.store.ledger import Ledger

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.03)
    monkeypatch.setattr(lease_module, "RETRY_SECONDS", 0.03)
    monkeypatch.setattr(lease_module, "SETTLE_SECONDS", 0.01)


def shorten(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the owner give its lease up after some seconds."""
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", seconds + 0.2)
    monkeypatch.setattr(lease_module, "MARGIN_SECONDS", 0.2)


class Storage:
    """Makes renewals fail: `plan` holds one entry per renewal, the last one repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plan: list[Exception | None]) -> None:
        self.calls, real = 0, Lease._write

        def write(lease: Lease) -> None:
            error = plan[min(self.calls, len(plan) - 1)]
            self.calls += 1
            if error:
                raise error
            real(lease)

        monkeypatch.setattr(Lease, "_write", write)


@pytest.mark.parametrize("error", [FULL, TimeoutError("slow"), ValueError("odd"), UserError("told")])
def test_it_is_renewed_again_after_an_error(error: Exception, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, lines = Storage(monkeypatch, [None, error, error, None]), list[str]()
    with DriverLease(ledger, lines.append):
        end = time.monotonic() + 30
        while storage.calls <= 5 and time.monotonic() < end:
            time.sleep(0.02)
    assert storage.calls > 5
    assert [line.partition(" (")[0] for line in lines] == [
        "the lease of the run was not renewed",
        "the lease of the run is renewed again",
    ]
    assert ledger.get("driver.json") is None


def test_a_run_ends_if_the_lease_cannot_be_renewed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, 0.3)
    Storage(monkeypatch, [None, FULL])
    start = time.monotonic()
    with (
        pytest.raises(LeaseLost, match=r"could not be renewed for .* No space left"),
        DriverLease(ledger, lambda _: None),
    ):
        time.sleep(60)
    assert time.monotonic() - start < 30


def outage(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, seconds: float, then: Any = lambda: None) -> list[str]:
    """Hold a lease while the storage cannot be reached for some seconds, until it is renewed; returns the lines of the log."""
    lines, end, real = list[str](), time.monotonic() + seconds, Lease._read

    def read(lease: Lease) -> tuple[str, float]:
        if lines or not over:
            if time.monotonic() < end:
                raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")
            if not over:
                then()
                over.append(True)
        return real(lease)

    over: list[bool] = []
    held = DriverLease(ledger, lines.append)
    held.lease.claim()
    monkeypatch.setattr(Lease, "claim", lambda *_: time.monotonic())
    monkeypatch.setattr(Lease, "_read", read)
    with held:
        while len(lines) < 2 and time.monotonic() < end + 30:
            time.sleep(0.02)
    return lines


def test_a_run_goes_on_after_an_outage_if_the_lease_is_still_its_own(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = outage(ledger, monkeypatch, 1.0)
    assert "trying again for 270 s" in lines[0]
    assert lines[1] == "the lease of the run is renewed again"


@pytest.mark.parametrize("ended", [False, True])
def test_a_run_ends_after_an_outage_in_which_another_driver_had_the_lease(
    ended: bool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken() -> None:
        ledger.put_json("driver.json", {"owner": "elsewhere:7", "time": time.time()})
        if ended:
            ledger.delete("driver.json")

    if ended:  # the machine has stood still for longer than the lease
        monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.2)
        monkeypatch.setattr(lease_module, "MARGIN_SECONDS", -60)
    with pytest.raises(LeaseLost, match="taken over by another driver"):
        outage(ledger, monkeypatch, 1.0, taken)


def test_patience_with_an_outage_ends(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, 0.5)
    with pytest.raises(LeaseLost, match=r"could not be renewed for 0\.5 s"):
        outage(ledger, monkeypatch, 30.0)


def test_the_owner_gives_its_lease_up_before_others_claim_it() -> None:
    """Also if the last attempt begins just before: it is cut off after `RENEW_SECONDS`."""
    assert lease_module.LEASE_SECONDS == 300
    assert lease_module.MARGIN_SECONDS == 30
    assert RENEW_SECONDS + RETRY_SECONDS < lease_module.MARGIN_SECONDS


def hold(ledger: Ledger, age: float = 0, owner: str = "elsewhere:7") -> None:
    """Write the lease of a driver that renewed it some seconds ago."""
    ledger.put_json("driver.json", {"owner": owner, "time": time.time() - age})


def test_a_driver_on_another_machine_claims_an_expired_lease_at_once(ledger: Ledger) -> None:
    hold(ledger, 301)
    lines: list[str] = []
    Lease(ledger, "here:2").claim(lines.append)
    assert lines == []
    assert ledger.get_json("driver.json")["owner"] == "here:2"


def test_a_lease_that_is_no_longer_renewed_is_waited_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a lost node, on which nothing renews it: a job that Kubernetes or Slurm starts again has no other attempt."""
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 79)
    hold(ledger, 75)
    expired = ledger.get_json("driver.json")["time"] + 79
    lines, start, left = list[str](), time.monotonic(), expired - time.time()
    with DriverLease(ledger, lines.append) as held:
        assert time.time() >= expired
        assert held.renewed >= start + left - 0.1  # the wait is no part of its own lease
        assert ledger.get_json("driver.json")["owner"] == lease_module.driver_name()
    watching, waiting = lines
    assert watching == (
        f"run {ledger.uri} is in use by another driver (elsewhere:7); watching for 0.06 s whether it still renews its lease"
    )
    assert re.fullmatch(r"elsewhere:7 has not renewed its lease; waiting \d s more until it has expired", waiting)


def test_a_lease_with_a_time_in_the_future_is_waited_for_no_longer_than_any_other(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the lost machine was an hour ahead of this one's."""
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.5)
    hold(ledger, -3600)
    Lease(ledger, "here:2").claim(lambda _: None)
    assert ledger.get_json("driver.json")["owner"] == "here:2"


@pytest.mark.parametrize("owner", ["elsewhere:7", "third:9"])
def test_a_driver_is_refused_if_the_lease_is_renewed_or_taken_while_it_waits(owner: str, ledger: Ledger) -> None:
    hold(ledger, 75)
    threading.Timer(0.3, hold, (ledger, 0, owner)).start()
    lines: list[str] = []
    with pytest.raises(UserError, match=rf"in use by another driver \({owner}\); wait for it to finish"):
        Lease(ledger, "here:2").claim(lines.append)
    assert ledger.get_json("driver.json")["owner"] == owner


def test_a_lease_that_is_released_meanwhile_is_claimed_at_once(ledger: Ledger) -> None:
    hold(ledger)
    threading.Timer(0.3, ledger.delete, ("driver.json",)).start()
    start = time.monotonic()
    Lease(ledger, "here:2").claim(lambda _: None)
    assert time.monotonic() - start < 30
    assert ledger.get_json("driver.json")["owner"] == "here:2"


def test_a_second_driver_on_the_same_machine_is_refused_at_once(ledger: Ledger) -> None:
    """Its process can be looked at, so nothing has to be waited for."""
    hold(ledger, owner=f"{socket.gethostname()}:{os.getppid()}")
    lines: list[str] = []
    with pytest.raises(UserError, match="in use by another driver"):
        Lease(ledger, lease_module.driver_name()).claim(lines.append)
    assert lines == []


def test_of_drivers_that_claim_at_the_same_time_one_gets_the_lease(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them find it free before the first one writes."""
    monkeypatch.setattr(lease_module, "SETTLE_SECONDS", 0.3)
    free, write = threading.Barrier(4), Lease._write
    monkeypatch.setattr(Lease, "_write", lambda lease: (free.wait(10), write(lease)))

    def claim(number: int) -> str:
        try:
            Lease(ledger, f"machine-{number}:7").claim()
            return ""
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        refused = list(threads.map(claim, range(4)))
    winner = refused.index("")
    assert sum(f"in use by another driver (machine-{winner}:7)" in message for message in refused) == 3


def test_a_claim_writes_only_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that waits for its storage would write an old time at its end."""
    calls: list[object] = []

    def busy(*args: object) -> str:
        calls.append(args)
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(folder, "write_atomically", busy)
    with pytest.raises(StorageError):
        Lease(ledger, "here:2").claim()
    assert len(calls) == 1


def test_a_renewal_that_hangs_does_not_hold_the_lease_and_writes_nothing_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, 0.5)
    real, hung, answers = Lease._read, threading.Event(), threading.Event()

    def read(lease: Lease) -> tuple[str, float]:
        if threading.current_thread().name == "lease-renewal":
            hung.set()
            answers.wait(30)
        return real(lease)

    monkeypatch.setattr(Lease, "_read", read)
    start = time.monotonic()
    with pytest.raises(LeaseLost, match="has not answered"), DriverLease(ledger, lambda _: None):
        assert hung.wait(10)
        written = ledger.get("driver.json")
        time.sleep(30)
    assert time.monotonic() - start < 20
    renewals = [thread for thread in threading.enumerate() if thread.name == "lease-renewal"]
    answers.set()
    for thread in renewals:
        thread.join(10)
    assert renewals
    assert ledger.get("driver.json") == written


def test_a_run_ends_if_another_driver_has_the_lease(ledger: Ledger) -> None:
    other = {"owner": "elsewhere:7", "time": time.time()}
    with pytest.raises(LeaseLost, match=r"taken over by another driver \(elsewhere:7\)"), DriverLease(ledger):
        ledger.put_json("driver.json", other)
        threading.Event().wait(60)
    assert ledger.get_json("driver.json") == other  # it is the other driver's, and stays
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_an_error_of_the_run_is_not_hidden(ledger: Ledger) -> None:
    def fail() -> None:
        raise UserError("mine")

    with pytest.raises(UserError, match="mine"), DriverLease(ledger):
        fail()
    assert ledger.get("driver.json") is None


def test_a_lease_that_cannot_be_released_does_not_fail_the_run(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with DriverLease(ledger, lines.append):
        Path(ledger.path("driver.json")).unlink()
        Path(ledger.path("driver.json")).mkdir()
    assert len(lines) >= 1
    assert "was not released" in lines[-1]


def test_outside_the_main_thread_the_loss_is_reported_at_the_end(ledger: Ledger) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with DriverLease(ledger) as held:
                ledger.put_json("driver.json", {"owner": "elsewhere:7", "time": time.time()})
                held.thread.join(30)  # it ends when the lease is lost
        except UserError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(errors[0], LeaseLost)


def test_another_drivers_lease_is_never_deleted(ledger: Ledger) -> None:
    Lease(ledger, "elsewhere:1").claim()
    Lease(ledger, "here:2").release()
    assert ledger.get_json("driver.json")["owner"] == "elsewhere:1"
    with pytest.raises(LeaseLost):
        Lease(ledger, "here:2").renew()
    Path(ledger.path("driver.json")).unlink()
    Lease(ledger, "here:2").release()
    Lease(ledger, "here:2").renew()
    assert ledger.get_json("driver.json")["owner"] == "here:2"


PROGRAM = """
import sys, threading, time
from vlrm_ray.errors import run_as_program
from vlrm_ray.store import lease
from vlrm_ray.store.ledger import Ledger
lease.RENEW_SECONDS = 0.05
def wait():
    lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=60)
def main():
    ledger = Ledger(sys.argv[1])
    with lease.DriverLease(ledger):
        %s
run_as_program(main, resumes=True)
"""
TAKEN_OVER = 'ledger.put_json("driver.json", {"owner": "elsewhere:7", "time": time.time()}); wait()'


@pytest.mark.parametrize("ignore_interrupts", [False, True])
def test_a_program_ends_with_status_2(ignore_interrupts: bool, tmp_path: Path) -> None:
    """Also where a shell has started it in the background, with SIGINT ignored."""
    prepare: Any = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignore_interrupts else None
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % TAKEN_OVER, str(tmp_path)], capture_output=True, text=True, timeout=50, preexec_fn=prepare,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "taken over by another driver" in done.stderr
    assert json.loads((tmp_path / "driver.json").read_text())["owner"] == "elsewhere:7"


def test_a_program_that_is_stopped_before_or_after_its_work_on_ray_releases_the_lease(tmp_path: Path) -> None:
    """As by `ray job stop` while it looks at its prompts, or writes its last report."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM % 'print("working", flush=True); wait()', str(tmp_path)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert (tmp_path / "driver.json").is_file()
    process.terminate()
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 143, errors
    assert errors == "stopping on SIGTERM\nterminated; run the same command again to resume\n"
    assert not (tmp_path / "driver.json").exists()


def test_containers_that_share_a_host_name_and_number_their_processes_alike_are_told_apart(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each of them the driver is process 1, and neither can look at the other's."""
    hold(ledger, owner=lease_module.driver_name())
    monkeypatch.setattr(lease_module, "_processes", lambda: "other")
    monkeypatch.setattr(lease_module, "_TOKEN", "other")
    threading.Timer(0.3, hold, (ledger,)).start()
    with pytest.raises(UserError, match="in use by another driver"):
        Lease(ledger, lease_module.driver_name()).claim(lambda _: None)


def test_a_lease_of_an_earlier_process_with_the_same_number_is_taken_over(ledger: Ledger) -> None:
    hold(ledger, owner=lease_module.driver_name().rpartition("/")[0] + "/before")
    Lease(ledger, lease_module.driver_name()).claim(lambda _: None)
    assert ledger.get_json("driver.json")["owner"] == lease_module.driver_name()
