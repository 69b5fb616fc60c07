"""A cluster that only this machine can reach."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Environment variable that makes the processes of Ray use the loopback address, as they do on macOS and Windows."""


@contextmanager
def on_loopback() -> Iterator[None]:
    """Context manager: a cluster that this process starts listens on the loopback interface alone.

    Without it Ray's servers, which run what they are sent, listen on all interfaces on Linux. The processes of the cluster
    inherit the variable. Ray reads it when it is imported, so if that has happened, its constant is set too.
    """
    if not sys.platform.startswith("linux"):  # there it is so anyway
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "0"
    _set_constant(enabled=False)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
        _set_constant(enabled=before != "0")


def _set_constant(*, enabled: bool) -> None:
    """Set what Ray has read from the variable, if it has been imported."""
    if constants := sys.modules.get("ray._private.ray_constants"):
        constants.ENABLE_RAY_CLUSTER = enabled  # type: ignore[attr-defined]
