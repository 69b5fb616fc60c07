"""The environment of a train worker's process."""

import socket
from types import SimpleNamespace

import pytest

from vlrm_ray.reward.training import process_setup

INTERFACES = {
    "lo": [SimpleNamespace(family=socket.AF_INET, address="127.0.0.1")],
    "eth0": [
        SimpleNamespace(family=socket.AF_INET, address="10.0.0.7"),
        SimpleNamespace(family=socket.AF_INET6, address="fe80::7"),
    ],
    "ib0": [SimpleNamespace(family=socket.AF_INET, address="10.1.0.7")],
}


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_setup.psutil, "net_if_addrs", lambda: INTERFACES)
    for name in (process_setup.GLOO_INTERFACE, process_setup.ALLOCATOR):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)


def environment(address: str, monkeypatch: pytest.MonkeyPatch, on_gpu: bool = False) -> tuple[str | None, str | None]:
    """The two variables that a process on a node with an address gets."""
    monkeypatch.setattr(process_setup.ray.util, "get_node_ip_address", lambda: address)
    process_setup.set_up(on_gpu)
    return process_setup.os.environ.get("GLOO_SOCKET_IFNAME"), process_setup.os.environ.get("PYTORCH_ALLOC_CONF")


@pytest.mark.parametrize(
    ("address", "interface"), [("10.0.0.7", "eth0"), ("10.1.0.7", "ib0"), ("127.0.0.1", None), ("10.9.9.9", None)]
)
def test_gloo_uses_the_interface_by_which_ray_reaches_the_node(
    address: str, interface: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment(address, monkeypatch) == (interface, None)


def test_on_a_gpu_segments_of_memory_can_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment("10.0.0.7", monkeypatch, on_gpu=True) == ("eth0", "expandable_segments:True")


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "backend:cudaMallocAsync")
    assert environment("10.0.0.7", monkeypatch, on_gpu=True) == ("ib0", "backend:cudaMallocAsync")
