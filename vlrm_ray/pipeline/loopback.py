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
    set_before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "0"
    constants = sys.modules.get("ray._private.ray_constants")
    enabled = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    if constants:
        constants.ENABLE_RAY_CLUSTER = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if constants := sys.modules.get("ray._private.ray_constants"):
            constants.ENABLE_RAY_CLUSTER = enabled  # type: ignore[attr-defined]
        if set_before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = set_before
