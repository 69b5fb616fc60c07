"""Fixtures that several modules share: the Ray cluster, a training, and two runs on another cluster."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.ray import clusters
from tests.s3_server import S3Server, s3_server
from vlrm_ray import config as configuration
from vlrm_ray.pipeline.cluster import connected

SETTINGS = ("cluster.dashboard=false", "cluster.object_store_mb=200", "train.start_timeout=300")


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """Temporary folder of the session's clusters. Its path is short: Ray puts Unix sockets into it."""
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture(scope="session")
def ray_cluster(ray_folder: str) -> Iterator[None]:
    """A local cluster, started as a run starts its own. All tests that use Ray in this process share it."""
    environment = {
        "RAY_TMPDIR": ray_folder,
        # Products in float32 on every CPU: on newer ones training multiplies in bfloat16, whose rounding hides errors.
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    }
    with mock.patch.dict(os.environ, environment):  # restores the environment in the end
        os.environ.pop("RAY_ADDRESS", None)
        with connected(configuration.load(None, SETTINGS), print):
            yield


@pytest.fixture(scope="session")
def fit_of_two(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of a training on two workers that was not interrupted."""
    from tests.ray.fits import fitted, new_ledger

    folder, steps = fitted(new_ledger(tmp_path_factory.mktemp("fit")), "train.workers=2")
    assert steps == [1, 2, 3, 4, 5, 6]
    return folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[S3Server]:
    """Images and prompts in a bucket."""
    with s3_server() as server:
        clusters.fill(server)
        yield server


@pytest.fixture(scope="session")
def two_runs(bucket: S3Server, ray_folder: str, tmp_path_factory: pytest.TempPathFactory) -> clusters.SideBySide:
    """Two runs at the same time on a cluster of one node. The first one works on the images of the bucket."""
    folder = Path(ray_folder, "two")
    folder.mkdir()
    return clusters.side_by_side(tmp_path_factory.mktemp("two"), folder, bucket.uri("data/prompts.jsonl"))
