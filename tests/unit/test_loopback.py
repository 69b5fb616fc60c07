"""The setting that keeps a local cluster on the loopback interface."""

import os
import sys
from types import ModuleType

import pytest

from vlrm_ray.pipeline.loopback import VARIABLE, on_loopback

CONSTANTS = "ray._private.ray_constants"


@pytest.mark.parametrize("before", [None, "1"])
def test_the_setting_ends_with_the_cluster(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = ModuleType(CONSTANTS)
    constants.ENABLE_RAY_CLUSTER = True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, CONSTANTS, constants)
    monkeypatch.delenv(VARIABLE, raising=False)
    if before:
        monkeypatch.setenv(VARIABLE, before)
    with on_loopback():
        assert os.environ[VARIABLE] == "0"
        assert constants.ENABLE_RAY_CLUSTER is False
    assert os.environ.get(VARIABLE) == before
    assert constants.ENABLE_RAY_CLUSTER is True


def test_ray_has_the_constant_that_is_set() -> None:
    from ray._private import ray_constants

    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR == VARIABLE
