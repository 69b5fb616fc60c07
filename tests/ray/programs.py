"""Runs the project's programs in processes of their own, as a user does."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

from vlrm_ray.errors import run_as_program

ROOT = Path(__file__).parents[2]
TIMEOUT = 800
"""Seconds that a program may take: several times what it takes on a machine with other work."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
"""Environment at the start of the session, without changes that tests make in this process."""


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` until it ends. It joins no running cluster.

    Args:
        arguments: path of the program, or `-c` and its code, and its arguments.
        environment: variables to set besides those of the session's start.
    """
    with started_program(*arguments, **environment) as process:
        output, errors = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@contextmanager
def started_program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """As `run_program`, but in the background; the program is killed when the block ends."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a program and the Ray cluster that it started, as a crash of the machine would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def exit_status(main: Callable[[], None], *arguments: str) -> int:
    """Exit status of an entry point that is called in this process, which saves the imports of a new one."""
    with mock.patch.object(sys, "argv", [main.__module__, *arguments]):
        try:
            run_as_program(main)
        except SystemExit as exit:
            return int(exit.code or 0)
    return 0
