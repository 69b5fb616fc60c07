"""Calibrate experts on scenes that no training, tuning or report draws."""

import numpy as np

from jobs.assets.detector import EXPERT_WORLD
from vlrm_ray.config import Experts
from vlrm_ray.experts.calibration import measure_detector, measure_reader, save
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.render import paint

SEED = 70_000_000
"""First seed of the calibration's scenes."""
SCENES = 1500


def calibrate(experts: Experts, vision_experts: VisionExperts) -> None:
    """Measure both experts on fresh scenes, and store the calibrations beside them."""
    scenes = [EXPERT_WORLD.sample(SEED + index) for index in range(SCENES)]
    seen = vision_experts.inspect([np.asarray(paint(scene).image) for scene in scenes])
    true = [true_evidence(scene) for scene in scenes]
    detector, reader = vision_experts.fingerprints
    save(experts.detector.model, measure_detector(detector, seen, true, experts.detector.confidence))
    save(experts.reader.recognition_model, measure_reader(reader, seen, true))
