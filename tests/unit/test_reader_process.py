"""The OCR reader of commands without Ray, in a process of its own."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from actors.experts import load_reader
from actors.reader_process import ReaderProcess
from vlrm_ray.config import Reader
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, labelled_image
from vlrm_ray.scenes.world import SIGN


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
    (answer,) = [reader.read([np.zeros((8, 8, 3), np.uint8)])]
    with pytest.raises(UserError, match=r"has no inference\.yml"):
        next(answer)


def test_an_image_that_the_reader_fails_on_does_not_end_the_process(images: list[Pixels]) -> None:
    reader = ReaderProcess(Reader())
    failed = reader.read([np.zeros(3, np.uint8)])
    with pytest.raises(RuntimeError, match="IndexError"):
        next(failed)
    assert all(reader.read(images))


def test_a_process_that_has_ended_is_reported() -> None:
    before = set(multiprocessing.active_children())
    reader = ReaderProcess(Reader())
    (process,) = set(multiprocessing.active_children()) - before
    process.kill()
    with pytest.raises(UserError, match="the process of the OCR reader has ended"):
        next(reader.read([np.zeros((8, 8, 3), np.uint8)]))


def test_the_process_ends_when_the_object_is_deleted() -> None:
    before = set(multiprocessing.active_children())
    reader = ReaderProcess(Reader())
    (process,) = set(multiprocessing.active_children()) - before
    del reader
    process.join(60)
    assert process.exitcode == 0
