"""An own cluster on few cores."""

import os
import time

import pytest
import ray

from vlrm_ray import config as configuration
from vlrm_ray.pipeline.cluster import connected, local_cluster_env


@ray.remote(num_cpus=0)
class Holder:
    """Stands for the engines: as many processes as there are cores, and more."""

    def ready(self) -> bool:
        return True


@ray.remote(num_cpus=0.1)
def process() -> int:
    time.sleep(0.5)
    return os.getpid()


def burst() -> set[int]:
    """The processes of tasks that run at the same time."""
    return set(ray.get([process.remote() for _ in range(5)]))


def test_tasks_in_bursts_meet_the_processes_of_the_burst_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that, each burst of the graph's tasks pays for its imports anew."""
    settings = configuration.load(None, ["cluster.dashboard=false", "cluster.object_store_mb=100"])
    for name in ("RAY_ADDRESS", *local_cluster_env(settings)):
        monkeypatch.delenv(name, raising=False)
    with connected(settings, print):
        holders = [Holder.remote() for _ in range(3)]
        assert all(ray.get([holder.ready.remote() for holder in holders]))
        burst()
        first = burst()
        time.sleep(4)
        assert burst() == first
