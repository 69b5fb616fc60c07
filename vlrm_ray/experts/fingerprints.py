"""Fingerprint of an expert: one hash over its model files and the settings that change its output.

Fingerprints name the experts' cache folders and tell whether a stored calibration belongs to the configured expert.
"""

from pathlib import Path

from vlrm_ray.config import Detector, Reader
from vlrm_ray.errors import UserError
from vlrm_ray.ids import digest
from vlrm_ray.store.models import local_model, model_fingerprint


def detector_fingerprint(settings: Detector) -> str:
    """Fingerprint of a detector checkpoint file with its settings; raises UserError if the file is missing."""
    path = Path(local_model(settings.model))
    if not path.is_file():
        raise UserError(f"detector checkpoint {path} does not exist; set experts.detector.model to a file")
    return digest(model_fingerprint(settings.model), settings.classes, settings.image_size)


def reader_fingerprint(settings: Reader) -> str:
    """Fingerprint of the text detection and recognition models; PaddleOCR's own models count as "default"."""
    models = (settings.detection_model, settings.recognition_model)
    return digest([model_fingerprint(model) if model else "default" for model in models], settings.confidence)
