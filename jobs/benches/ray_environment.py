"""Environment variables of the Ray clusters that a measurement starts on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def ray_environment(**variables: str) -> Iterator[None]:
    """Context manager: this process, and what it starts, has these variables and those of every measurement.

    The environment is as before when the block ends.
    """
    before = dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_USE_DATASOURCE_V2": "0", **variables}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # C++ messages in the driver
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
