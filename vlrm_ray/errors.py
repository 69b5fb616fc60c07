"""Exceptions of the project, and the entry point wrapper that shows user errors without a traceback."""

import errno
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STORAGE_ERRNOS = {
    getattr(errno, name)
    for name in (
        "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP", "ESTALE"
    )
}  # fmt: skip
"""Numbers of operating system errors that come from the state of a disk or folder, not from a bug."""


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


def run_as_program(main: Callable[[], None]) -> None:
    """Run the main function of a program.

    A `UserError` is printed as one line and ends the program with exit status 2; so do errors of disks and folders, and
    a `UserError` raised in a Ray task or actor. Ctrl-C ends the program with status 130, SIGTERM with 143.
    """
    try:
        with sigterm_raises():
            main()
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        what = "terminated" if terminated else "interrupted"
        print(f"{what}; run the same command again to resume", file=sys.stderr)
        sys.exit(143 if terminated else 130)
    except Exception as error:
        line = user_message(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def sigterm_raises() -> Iterator[Callable[[], None]]:
    """Context manager: SIGTERM raises `Terminated` in the main thread, so that a run that is stopped releases its lease.

    Yields:
        A function that sets the handler again, for use after a library has set its own. Other threads than the main one may
        call it too; there it does nothing, nor does the context manager.
    """
    received = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        raise Terminated

    def install() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)

    before = signal.getsignal(signal.SIGTERM)
    install()
    try:
        yield install
    except KeyboardInterrupt as error:  # calls of Ray raise this in place of what the handler has raised
        raise (Terminated() if received else error) from None
    except SystemExit as error:  # while Ray connects, its own handler is set, which exits with the number of the signal
        raise (Terminated() if error.code == signal.SIGTERM else error) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


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
