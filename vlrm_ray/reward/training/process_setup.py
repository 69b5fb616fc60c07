"""Environment of a train worker's process, which torch reads when it first uses a network or a GPU."""

import os
import socket

import psutil
import ray

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
"""Network interface of the process group that saves checkpoints. On CPUs Ray Train has made the main group, too, before the worker's
function starts; its interface must be set in the node's environment."""
ALLOCATOR = "PYTORCH_ALLOC_CONF"
"""Settings of torch's memory allocator."""


def set_up(on_gpu: bool) -> None:
    """Set what the user has not set.

    Gloo listens on the address that the host's own name stands for, which on Debian and Ubuntu often is 127.0.1.1, where no other
    node reaches it. It gets the interface by which Ray reaches this node. On a GPU, the allocator gets segments that can
    grow, because packed batches differ in length.
    """
    if name := interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault(GLOO_INTERFACE, name)
    if on_gpu:
        os.environ.setdefault(ALLOCATOR, "expandable_segments:True")


def interface_of(address: str) -> str:
    """Name of this host's network interface with an address; "" if no interface has it, or it is the loopback interface."""
    interfaces = psutil.net_if_addrs()
    names = [name for name, found in interfaces.items() if any(each.address == address for each in found)]
    loopback = {each.address for each in interfaces.get("lo", []) if each.family == socket.AF_INET}
    return names[0] if names and address not in loopback else ""
