"""Calibrates the experts on scenes that no training, tuning or report uses."""

import numpy as np

from jobs.assets.detector import EXPERT_WORLD
from vlrm_ray.config import Experts
from vlrm_ray.experts.calibration import save_calibration
from vlrm_ray.experts.measurement import measure_detector, measure_reader
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.render import paint

SEED = 70_000_000
"""First scene of the calibration."""
SCENES = 1500


def calibrate(experts: Experts, vision_experts: VisionExperts) -> None:
    """Calibrate detector and reader on `SCENES` fresh scenes, and write the calibrations beside their models."""
    scenes = [EXPERT_WORLD.sample(SEED + index) for index in range(SCENES)]
    detected = vision_experts.inspect([np.asarray(paint(scene).image) for scene in scenes])
    truth = [true_evidence(scene) for scene in scenes]
    detector, reader = vision_experts.fingerprints
    save_calibration(experts.detector.model, measure_detector(detector, detected, truth, experts.detector.confidence))
    save_calibration(experts.reader.recognition_model, measure_reader(reader, detected, truth))
