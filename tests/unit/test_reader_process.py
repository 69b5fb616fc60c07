"""The OCR reader of commands without Ray, in a process of its own."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors.experts import load_reader
from actors.reader_process import ReaderProcess
from vlrm_ray.config import Reader
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, labelled_image
from vlrm_ray.scenes.world import SIGN

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal
from actors.reader_process import ReaderProcess
from vlrm_ray.config import Reader
reader = ReaderProcess(Reader())
print(reader.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
UNGUARDED = """
import numpy as np
from actors.reader_process import ReaderProcess
from vlrm_ray.config import Reader
print(list(ReaderProcess(Reader()).read([np.full((64, 64, 3), 230, np.uint8)])))
"""


@pytest.fixture
def images() -> list[Pixels]:
    """Two images with a sign."""
    labelled = [labelled_image(IN_DISTRIBUTION, seed) for seed in range(40)]
    return [np.asarray(x.rendered.image) for x in labelled if any(thing.shape == SIGN for thing in x.scene.objects)][:2]


def test_it_reads_the_words_that_the_reader_reads_in_this_process(images: list[Pixels]) -> None:
    here, there = load_reader(Reader()), ReaderProcess(Reader())
    words = list(there.read(images))
    assert words == [here.read(image) for image in images]
    assert all(words)
    assert there.fingerprint == here.fingerprint


def test_models_that_cannot_be_loaded_are_reported_in_the_words_of_the_reader(tmp_path: Path) -> None:
    reader = ReaderProcess(Reader(detection_model=str(tmp_path), recognition_model=str(tmp_path)))
    with pytest.raises(UserError, match=r"has no inference\.yml"):
        next(reader.read([np.zeros((8, 8, 3), np.uint8)]))


def test_an_image_that_the_reader_fails_on_does_not_end_the_process(images: list[Pixels]) -> None:
    reader = ReaderProcess(Reader())
    failed = reader.read([np.zeros(3, np.uint8)])
    with pytest.raises(RuntimeError, match="IndexError"):
        next(failed)
    assert all(reader.read(images))


def test_what_cannot_be_sent_is_reported() -> None:
    with pytest.raises(Exception, match="pickle"):
        next(ReaderProcess(Reader()).read([lambda: None]))  # type: ignore[list-item]


def test_any_failure_to_load_is_reported_with_its_cause(tmp_path: Path) -> None:
    for name in ("detection", "recognition"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inference.yml").write_text("PreProcess: {transform_ops: []}\nPostProcess: {}\n")
    folders = {f"{name}_model": str(tmp_path / name) for name in ("detection", "recognition")}
    with pytest.raises(RuntimeError, match="KeyError: 'Global'"):
        next(ReaderProcess(Reader(**folders)).read([np.zeros((8, 8, 3), np.uint8)]))


def test_a_process_that_has_ended_is_reported() -> None:
    reader = ReaderProcess(Reader())
    reader.process.kill()
    with pytest.raises(UserError, match="the process of the OCR reader was ended by signal 9"):
        next(reader.read([np.zeros((8, 8, 3), np.uint8)]))


def test_the_process_ends_when_the_object_is_deleted() -> None:
    reader = ReaderProcess(Reader())
    process = reader.process
    assert process.poll() is None
    del reader
    assert process.poll() is not None


def test_the_process_ends_when_the_program_is_killed() -> None:
    started = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, cwd=ROOT, check=False)
    assert started.returncode == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(started.stdout)).wait(120)


def test_a_program_without_a_guarded_main_part_can_use_it() -> None:
    done = subprocess.run(
        [sys.executable, "-"], input=UNGUARDED, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[()]\n", "", 0)
