"""Engines of a machine that start at the same time."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from actors.start_locks import start_lock
from vlrm_ray.engines import EngineSettings

PART = EngineSettings("vllm", "model", "bfloat16", 512, 64, 64, 0.2, 0.5, 1)


@pytest.fixture(autouse=True)
def folder_of_the_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")


def starts_beside(settings: EngineSettings, device: str = "3") -> bool:
    """Whether an engine can start on a device while another one starts on half of GPU 3."""
    started = threading.Event()

    def start() -> None:
        with start_lock(settings):
            started.set()

    thread = threading.Thread(target=start)
    with start_lock(PART):
        os.environ["CUDA_VISIBLE_DEVICES"] = device
        thread.start()
        beside = started.wait(0.3)
    thread.join(10)
    assert started.is_set()
    return beside


def test_engines_that_share_a_gpu_start_one_after_the_other() -> None:
    assert not starts_beside(PART)


@pytest.mark.parametrize(("gpus", "share"), [(0.5, 0.45), (1, 0.85), (4, 0.85)])
def test_an_engine_takes_no_more_memory_than_its_part_of_a_gpu(gpus: float, share: float) -> None:
    assert replace(PART, gpus=gpus, gpu_memory=0.85).memory_share == pytest.approx(share)
    assert replace(PART, gpus=0.5, gpu_memory=0.2).memory_share == 0.2


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_engines_that_share_none_start_together(gpus: float) -> None:
    assert starts_beside(replace(PART, gpus=gpus))


def test_engines_on_other_gpus_start_together() -> None:
    assert starts_beside(PART, device="4")
