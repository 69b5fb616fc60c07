"""The lease of a run: one driver at a time works in its folder, and ends if another one takes the lease.

It is the file `LEASE_FILE` in the run's folder: its owner, and the Unix time of its last renewal. One number rules both
sides: others claim a lease that was not renewed for `LEASE_SECONDS`, and its owner has given it up `MARGIN_SECONDS` before. So
two drivers never work on a run at the same time, if their clocks differ by less than the margin. The price of a longer lease
is that another machine waits longer for the run of a lost driver node: it waits by itself, and is refused only if the lease is
renewed meanwhile.
"""

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from vlrm_ray.errors import LeaseLost, StorageError, UserError
from vlrm_ray.ids import digest
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.patience import impatient

LEASE_FILE = "driver.json"
"""Name of the file."""
LEASE_SECONDS = 300
"""A lease that was not renewed for this long has expired: others claim it."""
MARGIN_SECONDS = 30
"""The owner gives its lease up so long before, which allows for clocks that differ; longer than `RENEW_SECONDS`."""
RENEW_SECONDS = 20
"""Seconds between two renewals of the lease."""
RETRY_SECONDS = 5
"""Seconds between two attempts after a failed renewal, and between two looks at the lease of another driver."""
JOIN_SECONDS = 30
"""How long the end of a run waits for a renewal in progress, so that it cannot write the lease again."""
SETTLE_SECONDS = 0.5
"""How long after a claim the owner looks again, on a disk; on object storage four times as long. Of two drivers that found the lease free
at the same time, one has written last. If its write took longer, the other one learns of it when it renews its lease."""
_TOKEN = secrets.token_hex(4)
"""Tells this process from an earlier one with the same number."""


class Lease:
    """The lease as one driver sees it."""

    def __init__(self, ledger: Ledger, owner: str) -> None:
        """Take the lease's run, and the driver as `driver_name` gives it."""
        self.ledger, self.owner, self.given_up = ledger, owner, False

    def claim(self, log: Callable[[str], None] = print) -> float:
        """Acquire the lease. A lease of another machine that is no longer renewed is waited for until it has expired.

        So a run that is started again on another machine, as Kubernetes and Slurm do when a node is lost, needs no second
        attempt.

        Args:
            log: prints a line; called when the wait begins, and when it is known that it lasts.

        Returns:
            When it was acquired, in monotonic time; not later than the time in the file.

        Raises:
            UserError: another driver is running: it is a process of this machine, or renews its lease.
        """
        with impatient():  # the run's first access to its storage, whose address may be wrong
            lease = self._read()
        if self._is_held(*lease):
            if _is_on_this_machine(lease[0]):
                raise self._in_use(lease[0])
            self._wait(*lease, log)
        with impatient():
            now = time.monotonic()
            self._write()
            time.sleep(SETTLE_SECONDS * (4 if is_remote(self.ledger.uri) else 1))
            if (holder := self._read()[0]) not in ("", self.owner):
                raise self._in_use(holder)
        return now

    def _is_held(self, holder: str, renewed: float) -> bool:
        return holder not in ("", self.owner) and time.time() - renewed < LEASE_SECONDS and _may_be_running(holder)

    def _wait(self, holder: str, renewed: float, log: Callable[[str], None]) -> None:
        """Wait until the lease of another machine's driver has expired or is released; raises UserError if it is renewed.

        It has expired too if it was not renewed for `LEASE_SECONDS` by the clock of this machine, whatever the other's says.
        """
        run, watch = redacted(self.ledger.uri), 2 * RENEW_SECONDS
        log(
            f"run {run} is in use by another driver ({_name(holder)}); watching for {watch:g} s whether it still renews its lease"
        )
        start = now = time.monotonic()
        end, told = start + min(LEASE_SECONDS, renewed + LEASE_SECONDS - time.time()), False
        while now < end:
            if not told and now - start >= watch:
                log(f"{_name(holder)} has not renewed its lease; waiting {end - now:.0f} s more until it has expired")
                told = True
            time.sleep(RETRY_SECONDS)
            lease = self._read()
            if not lease[0]:
                return
            if lease != (holder, renewed):
                raise self._in_use(lease[0])
            now = time.monotonic()

    def _in_use(self, holder: str) -> UserError:
        return UserError(
            f"run {redacted(self.ledger.uri)} is in use by another driver ({_name(holder)}); wait for it to finish, or choose another "
            "name="
        )

    def renew(self, *, expired: bool = False) -> None:
        """Extend the lease by `LEASE_SECONDS` from now.

        Args:
            expired: whether the lease was not renewed in time. If there is none any more, another driver had it meanwhile.

        Raises:
            LeaseLost: another driver has taken the lease.
        """
        holder, _ = self._read()
        if holder != self.owner and (holder or expired):
            raise LeaseLost(
                f"run {redacted(self.ledger.uri)} was taken over by another driver ({_name(holder) or 'which has ended'}), so this "
                "one has stopped; follow the run there, or run the same command again when it has ended"
            )
        if not self.given_up:  # meanwhile
            self._write()

    def release(self) -> None:
        """Release the lease, so that another driver can claim it. The lease of another driver is kept."""
        if self._read()[0] == self.owner:
            self.ledger.delete(LEASE_FILE)

    def _read(self) -> tuple[str, float]:
        """Owner of the lease and the Unix time of its last renewal; "" and 0 without a lease."""
        lease = self.ledger.get_json(LEASE_FILE)
        try:
            return ("", 0.0) if lease is None else (str(lease["owner"]), float(lease["time"]))
        except (KeyError, TypeError, ValueError):
            raise StorageError(
                f"{redacted(self.ledger.location(LEASE_FILE))} is not a lease with owner and time; delete it if no driver "
                "works on the run"
            ) from None

    def _write(self) -> None:
        self.ledger.put_json(LEASE_FILE, {"owner": self.owner, "time": time.time()})


class DriverLease:
    """Context manager that holds the run's lease, so that no second driver can work in the run's folder.

    A thread renews the lease. A failed renewal is reported once and tried again, until `MARGIN_SECONDS` before the lease
    expires: then the run goes on if the lease is still its own. If it is not, or could not be renewed, the thread interrupts
    the main thread, and the context manager raises `LeaseLost`.

    Attributes:
        lost: why the lease was lost; "" while it is held.
    """

    def __init__(self, ledger: Ledger, log: Callable[[str], None] = print) -> None:
        """Prepare the lease.

        Args:
            ledger: ledger of the run.
            log: prints a line.
        """
        self.lease, self.log, self.lost = Lease(ledger, driver_name()), log, ""
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.in_main_thread = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "DriverLease":
        self.renewed = self.lease.claim(self.log)
        if self.in_main_thread:
            self.previous_handler = signal.signal(signal.SIGUSR1, self._interrupt)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.stop.set()
        self.thread.join(JOIN_SECONDS)
        self.lease.given_up = True
        if self.in_main_thread:
            signal.signal(signal.SIGUSR1, self.previous_handler)
        if self.lost and not isinstance(error, UserError):
            raise LeaseLost(self.lost) from None
        if not self.lost:
            self._release()

    def _release(self) -> None:
        try:
            with impatient():
                self.lease.release()
        except StorageError as error:
            self.log(f"the lease of the run was not released and expires in {LEASE_SECONDS} s: {error}")

    def _renew(self) -> None:
        """Renew the lease until the run ends or the lease is lost; runs in a thread."""
        failed = False
        while not self.lost and not self.stop.wait(RETRY_SECONDS if failed else RENEW_SECONDS):
            began = time.monotonic()
            try:
                self._attempt(max(self._give_up_at() - began, RENEW_SECONDS))
            except LeaseLost as error:
                self.lost = str(error)
            except Exception as error:  # the thread must go on after any error, or the run would lose its lease
                self._handle(error, first=not failed)
                failed = True
            else:
                self.renewed = began  # not later than the time in the file
                if failed:
                    self.log("the lease of the run is renewed again")
                failed = False
        if self.lost and self.in_main_thread and not self.stop.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _attempt(self, seconds: float) -> None:
        """Renew the lease once. Raises StorageError after some seconds without an answer: a hung storage may block for ever."""
        outcome: list[Exception | None] = []

        def renew() -> None:
            try:
                with impatient():
                    self.lease.renew(expired=time.monotonic() - self.renewed >= LEASE_SECONDS)
            except Exception as error:  # raised below
                outcome.append(error)
            else:
                outcome.append(None)

        thread = threading.Thread(target=renew, name="lease-renewal", daemon=True)
        thread.start()
        thread.join(seconds)
        error = outcome[0] if outcome else StorageError(f"the storage has not answered for {seconds:.0f} s")
        if error:
            raise error

    def _give_up_at(self) -> float:
        """When the lease is given up if it is not renewed before."""
        return self.renewed + LEASE_SECONDS - MARGIN_SECONDS

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: end the work of the main thread, as Ctrl-C does."""
        if not self.stop.is_set():
            raise KeyboardInterrupt

    def _handle(self, error: Exception, *, first: bool) -> None:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        left = self._give_up_at() - time.monotonic()
        if left <= 0:
            self.lease.given_up = True
            self.lost = (
                f"the lease of run {redacted(self.lease.ledger.uri)} could not be renewed for "
                f"{LEASE_SECONDS - MARGIN_SECONDS:g} s, so the run has stopped ({reason}); mend the storage, then run the same "
                "command again to resume"
            )
        elif first:
            self.log(f"the lease of the run was not renewed ({reason}); trying again for {left:.0f} s")


def driver_name() -> str:
    """Name of this process as a lease's owner: "host:pid/processes/token".

    `processes` stands for the machine's boot and its namespace of processes: containers may share a host name, and each have a
    process 1. The token is that of this process alone.
    """
    return f"{socket.gethostname()}:{os.getpid()}/{_processes()}/{_TOKEN}"


def _processes() -> str:
    """Names the processes among which a pid is looked up; "" where the system does not tell."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return digest(boot, str(os.stat("/proc/self/ns/pid").st_ino))[:8]
    return ""


def _name(owner: str) -> str:
    """An owner as "host:pid"."""
    return owner.partition("/")[0]


def _parts(owner: str) -> tuple[str, str, str]:
    """Host, pid and processes of an owner; leases of earlier versions name no processes."""
    host, _, pid = _name(owner).rpartition(":")
    return host, pid, owner.partition("/")[2].partition("/")[0]


def _is_on_this_machine(owner: str) -> bool:
    host, pid, processes = _parts(owner)
    return host == socket.gethostname() and pid.isdecimal() and processes in ("", _processes())


def _may_be_running(owner: str) -> bool:
    """Whether a driver may still be running; always true for other hosts, whose processes cannot be checked."""
    if not _is_on_this_machine(owner):
        return True
    pid = int(_parts(owner)[1])
    if pid == os.getpid():  # that process had the number before this one
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
