"""Locks between the engines of a machine while they start."""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vlrm_ray.engines import EngineSettings


@contextmanager
def inspection_lock() -> Iterator[None]:
    """Held while vLLM inspects the model's class in a subprocess, for an engine in another process.

    vLLM stores the result in a file of the machine, which the engines that wait for the lock then read.
    """
    with _machine_lock("inspection"):
        yield


@contextmanager
def start_lock(settings: EngineSettings) -> Iterator[None]:
    """Held while an engine starts on a part of a GPU: the engines of a GPU start one after the other.

    vLLM measures the free memory of its GPU meanwhile, and fails if another engine frees some.
    """
    if not 0 < settings.gpus < 1:
        yield
        return
    device = re.sub(r"[^\w-]", "_", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    with _machine_lock(f"gpu-{device}"):
        yield


@contextmanager
def _machine_lock(name: str) -> Iterator[None]:
    """A lock of this user on this machine; there is none where its file cannot be opened."""
    path = Path(tempfile.gettempdir(), f"vlrm-ray-{os.getuid()}-{name}.lock")
    with ExitStack() as stack:
        with suppress(OSError):
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
            stack.callback(os.close, file)  # also frees the lock
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
