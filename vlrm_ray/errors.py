"""Exceptions of the project, and the entry point wrapper that shows user errors without a traceback."""

import atexit
import errno
import gc
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STORAGE_ERRNOS = {
    getattr(errno, name)
    for name in (
        "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP", "ESTALE"
    )
}  # fmt: skip
"""Numbers of operating system errors that come from the state of a disk or folder, not from a bug."""
SAME_SIGNAL_SECONDS = 5.0
"""SIGTERM again within this time means the same: schedulers send it to a whole group, and a script passes it on."""


class UserError(Exception):
    """A problem that the user can fix. The message is one line: what is wrong, and what to do about it."""


class StorageError(UserError):
    """A folder or bucket cannot be read or written."""


class LeaseLost(UserError):
    """Another driver may work on the run, so this one has to stop."""


class RoundFailed(UserError):
    """A round cannot be made before the user changes something: another attempt would cost as much and fail in the same way."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as `ray job stop`, Slurm and Kubernetes do."""


class BadImage(Exception):
    """An image that cannot be used. The message is the reason recorded with the quarantined row."""


def run_as_program(main: Callable[[], None], *, resumes: bool = False) -> None:
    """Run the main function of a program.

    A `UserError` is printed as one line and ends the program with exit status 2; so do errors of disks and folders, and
    a `UserError` raised in a Ray task or actor. Ctrl-C ends the program with status 130, SIGTERM with 143, and a reader of
    its output that ends first, such as `head`, with 141.

    Args:
        main: the function.
        resumes: whether the same command, run again, goes on where this one was stopped.
    """
    atexit.register(gc.freeze)  # else the exit searches all loaded modules for reference cycles, which takes a second
    try:
        with stopped_by_signals(resumes=resumes):
            main()
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        if (
            signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
            and threading.current_thread() is threading.main_thread()
        ):
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the exit waits for threads: a second Ctrl-C ends it, too
        terminated = isinstance(error, Terminated)
        what = "terminated" if terminated else "interrupted"
        print(f"{what}; run the same command again to resume" if resumes else what, file=sys.stderr)
        sys.exit(143 if terminated else 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(141)
        line = user_message(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


def _nobody_reads() -> bool:
    """Whether the reader of the standard output has ended. What is left to be written then goes nowhere."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    broken = any(event & select.POLLERR for _, event in poll.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return broken


@contextmanager
def stopped_by_signals(*, resumes: bool = False) -> Iterator[Callable[[], None]]:
    """Context manager: SIGTERM and Ctrl-C (SIGINT) stop the main thread, so that a run that is stopped releases its lease.

    The first one says so at once, because engines take a while to stop, and raises `Terminated` or `KeyboardInterrupt`.
    A Ctrl-C after it ends the process at once. Inside another such context, what the outer one has received still counts.

    Args:
        resumes: whether the same command, run again, goes on where this one was stopped.

    Yields:
        A function that sets the handlers again, for use after a library has set its own. Other threads than the main one may
        call it too; there it does nothing, nor does the context manager.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    outer = before[signal.SIGTERM]
    nested = outer if isinstance(outer, _Stop) else None
    stop = nested or _Stop(resumes=resumes)
    stop.install()
    try:
        yield stop.install
    except KeyboardInterrupt as error:  # calls of Ray raise this in place of what the handler has raised
        raise (Terminated() if stop.received == signal.SIGTERM else error) from None
    except SystemExit as error:  # while Ray connects, its own handler is set, which exits with the number of the signal
        raise (Terminated() if error.code == signal.SIGTERM else error) from None
    finally:
        if nested:
            stop.install()
        elif threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class _Stop:
    """Handler of SIGINT and SIGTERM.

    Attributes:
        received: number of the signal that stops the main thread; None before.
    """

    def __init__(self, *, resumes: bool) -> None:
        self.resumes, self.last = resumes, 0.0
        self.received: int | None = None

    def install(self) -> None:
        """Handle the signals from now on. SIGINT stays ignored where it is, as by a shell for what runs in its background."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.SIG_DFL if self.received else self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Stop the main thread. From then on Ctrl-C has its default action, which ends a process wherever it is."""
        before, self.last = self.last, time.monotonic()
        if self.received and self.last - before < SAME_SIGNAL_SECONDS:
            return
        if not self.received:
            self.received = number
            self.install()
            self._tell()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _tell(self) -> None:
        """Write what happens. `print` cannot be used here: the signal may have interrupted it."""
        line = "stopping; a second Ctrl-C ends it at once" + (", and the run can be resumed either way" * self.resumes)
        with suppress(OSError):
            os.write(2, f"{line if self.received == signal.SIGINT else 'stopping on SIGTERM'}\n".encode())


def user_message(error: Exception) -> str | None:
    """The line to show to the user for an exception; None if the exception is a bug.

    Ray wraps what a task or actor raises: the original exception is the attribute `cause`, or only part of the text.
    """
    for link in _chain(error):
        if isinstance(link, UserError) and getattr(link, "cause", None) is None:
            return str(link)
        if isinstance(link, OSError) and link.errno in STORAGE_ERRNOS and link.filename:
            return f"{link.filename}: {link.strerror}; give another folder, or repair this one"
    remote = re.findall(r"^vlrm_ray\.errors\.(?:UserError|StorageError): (.+)$", str(error), re.MULTILINE)
    return remote[-1] if remote else None


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first line of an exception's message, cut to `limit` characters; its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:limit]


def last_line(error: BaseException) -> str:
    """The last line of an exception's message, which in chained messages is the cause; its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]


def _chain(error: object) -> Iterator[BaseException]:
    """An exception and the ones that caused it."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "cause", None) or error.__cause__
