"""Settings of the whole session. pytest imports this file before any test, and so before NumPy and PyTorch."""

import os
import sys

import pytest

# Threads of one operation wait for each other: on a busy machine that takes longer than a single thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Many tests start processes that import PyTorch. Without bytecode files each of them would compile it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first, and the tests of the shared cluster last: it lives until the session ends."""
    items.sort(key=_order)


def _order(item: pytest.Item) -> tuple[bool, bool]:
    return "/ray/" in item.nodeid, "ray_cluster" in getattr(item, "fixturenames", ())
