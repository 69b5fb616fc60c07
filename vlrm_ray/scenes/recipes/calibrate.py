"""Calibrate experts on scenes that no training, tuning or report draws."""

import numpy as np

from vlrm_ray.calibration import measure_detector, measure_reader, save
from vlrm_ray.config import Experts
from vlrm_ray.eyes import Eyes
from vlrm_ray.scenes.recipes.detector import EXPERT_WORLD
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.truth import truth_of

SEED = 70_000_000
"""First seed of the calibration's scenes."""
SCENES = 1500


def calibrate(experts: Experts, eyes: Eyes) -> None:
    """Measure both experts on fresh scenes, and store the calibrations beside them."""
    scenes = [EXPERT_WORLD.sample(SEED + index) for index in range(SCENES)]
    seen = eyes.see([np.asarray(paint(scene).image) for scene in scenes])
    true = [truth_of(scene) for scene in scenes]
    detector, reader = eyes.fingerprints
    save(experts.detector.model, measure_detector(detector, seen, true, experts.detector.confidence))
    save(experts.reader.reader, measure_reader(reader, seen, true))
