"""Calibrate experts on scenes that no training, tuning or report draws."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vlrm_ray.calibration import measure_detector, measure_reader, save
from vlrm_ray.evidence import evidence_of
from vlrm_ray.look import Find, Pixels, look
from vlrm_ray.scenes.recipes.detector import EXPERT_WORLD
from vlrm_ray.scenes.recipes.quality import truth_of
from vlrm_ray.scenes.render import paint
from vlrm_ray.types import Evidence, Word

SEED = 70_000_000
"""First seed of the calibration's scenes."""
SCENES = 1500
BATCH = 32
Read = Callable[[Pixels], tuple[Word, ...]]


def observe(images: Sequence[Pixels], find: Find, read: Read, confidence: float) -> list[Evidence]:
    """What both experts see in RGB images (h, w, 3), in batches."""
    looks = [
        seen for start in range(0, len(images), BATCH) for seen in look(images[start : start + BATCH], find, confidence)
    ]
    return [evidence_of(seen, read(image)) for seen, image in zip(looks, images, strict=True)]


def calibrate_detector(model: str, fingerprint: str, find: Find, confidence: float) -> Path:
    """Measure a detector, and store the calibration beside it."""
    seen, true = _scenes(find, lambda image: (), confidence)
    return save(model, measure_detector(fingerprint, seen, true, confidence))


def calibrate_reader(model: str, fingerprint: str, read: Read) -> Path:
    """Measure a text reader, and store the calibration beside it."""
    seen, true = _scenes(lambda images: [[] for _ in images], read, 1.0)
    return save(model, measure_reader(fingerprint, seen, true))


def _scenes(find: Find, read: Read, confidence: float) -> tuple[list[Evidence], list[Evidence]]:
    scenes = [EXPERT_WORLD.sample(SEED + index) for index in range(SCENES)]
    pictures = [np.asarray(paint(scene).image) for scene in scenes]
    return observe(pictures, find, read, confidence), [truth_of(scene) for scene in scenes]
