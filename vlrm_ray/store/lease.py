"""Holds the lease of a run while a driver works on it, and ends the driver if the lease is lost."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from vlrm_ray.errors import LeaseLost, StorageError, UserError
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import LEASE_SECONDS, Ledger, driver_name

RENEW_SECONDS = 20
"""Seconds between two renewals of the lease."""
RETRY_SECONDS = 5
"""Seconds between two attempts after a failed renewal."""
JOIN_SECONDS = 30
"""How long the end of a run waits for a renewal in progress, so that it cannot write the lease again."""


class DriverLease:
    """Context manager that holds the run's lease, so that no second driver can work in the run's folder.

    A thread renews the lease. A failed renewal is reported once and tried again. If another driver has taken the lease,
    or if it could not be renewed for `LEASE_SECONDS`, the thread interrupts the main thread, and the context manager
    raises `LeaseLost`.

    Attributes:
        lost: why the lease was lost; "" while it is held.
    """

    def __init__(self, ledger: Ledger, log: Callable[[str], None] = print) -> None:
        """Prepare the lease.

        Args:
            ledger: ledger of the run.
            log: prints a line.
        """
        self.ledger, self.log = ledger, log
        self.owner, self.lost = driver_name(), ""
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.in_main_thread = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "DriverLease":
        self.ledger.claim_lease(self.owner)
        self.renewed = time.monotonic()
        if self.in_main_thread:
            self.previous_handler = signal.signal(signal.SIGUSR1, self._interrupt)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.stop.set()
        self.thread.join(JOIN_SECONDS)
        if self.in_main_thread:
            signal.signal(signal.SIGUSR1, self.previous_handler)
        if self.lost and not isinstance(error, UserError):
            raise LeaseLost(self.lost) from None
        if not self.lost:
            self._release()

    def _release(self) -> None:
        try:
            self.ledger.release_lease(self.owner)
        except StorageError as error:
            self.log(f"the lease of the run was not released and expires in {LEASE_SECONDS} s: {error}")

    def _renew(self) -> None:
        """Renew the lease until the run ends or the lease is lost; runs in a thread."""
        failed = False
        while not self.lost and not self.stop.wait(RETRY_SECONDS if failed else RENEW_SECONDS):
            try:
                self.ledger.renew_lease(self.owner)
            except LeaseLost as error:
                self.lost = str(error)
            except Exception as error:  # the thread must go on after any error, or the run would lose its lease
                self._handle(error, first=not failed)
                failed = True
            else:
                self.renewed = time.monotonic()
                if failed:
                    self.log("the lease of the run is renewed again")
                failed = False
        if self.lost and self.in_main_thread and not self.stop.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: end the work of the main thread, as Ctrl-C does."""
        if not self.stop.is_set():
            raise KeyboardInterrupt

    def _handle(self, error: Exception, *, first: bool) -> None:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if first:
            self.log(f"the lease of the run was not renewed ({reason}); trying again for {LEASE_SECONDS} s")
        if time.monotonic() - self.renewed >= LEASE_SECONDS:
            self.lost = (
                f"the lease of run {redacted(self.ledger.uri)} could not be renewed for {LEASE_SECONDS} s, so the run has "
                f"stopped ({reason}); mend the storage, then run the same command again to resume"
            )
