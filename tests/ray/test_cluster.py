"""A local cluster with few cores."""

import ipaddress
import time
from contextlib import suppress

import psutil
import pytest
import ray


@ray.remote(num_cpus=0)
class Engine:
    """Stands for an engine: with these there are more processes than cores."""

    def ready(self) -> bool:
        return True


@ray.remote(num_cpus=0.1)
def process_start() -> float:
    """Unix time at which the process of a task started."""
    time.sleep(0.5)
    return psutil.Process().create_time()


def burst() -> list[float]:
    """Start times of the processes that run five tasks at the same time."""
    return ray.get([process_start.remote() for _ in range(5)])


@pytest.mark.usefixtures("ray_cluster")
def test_a_burst_of_tasks_runs_in_the_processes_of_earlier_bursts() -> None:
    """Ray would end idle processes after a second, and each burst would pay for the imports of new ones."""
    engines = [Engine.remote() for _ in range(3)]
    assert all(ray.get([engine.ready.remote() for engine in engines]))
    burst()
    burst()
    before = time.time()
    time.sleep(4)
    assert max(burst()) < before


@pytest.mark.usefixtures("ray_cluster")
def test_a_local_cluster_listens_on_the_loopback_interface_alone() -> None:
    """Its servers run what they are sent."""
    engine = Engine.remote()
    assert ray.get(engine.ready.remote())
    own, listening = psutil.Process(), set[str]()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            listening |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening
    assert all(ipaddress.ip_address(address).is_loopback or _mapped(address) for address in listening), listening


def _mapped(address: str) -> bool:
    """Whether it is an IPv6 address that stands for a loopback address of IPv4."""
    parsed = ipaddress.ip_address(address)
    return isinstance(parsed, ipaddress.IPv6Address) and bool(parsed.ipv4_mapped and parsed.ipv4_mapped.is_loopback)
