"""Fingerprint of an expert: one hash over its model files and the settings that change its output.

Fingerprints name the experts' cache folders and tell whether a stored calibration belongs to the configured expert.
"""

from pathlib import Path

from vlrm_ray.config import Detector, Reader, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.ids import digest, fingerprint, sha256_of


def detector_fingerprint(settings: Detector) -> str:
    """Fingerprint of a detector checkpoint file with its settings; raises UserError if the file is missing."""
    path = Path(asset_path(settings.model))
    if not path.is_file():
        raise UserError(f"detector checkpoint {path} does not exist; set experts.detector.model to a local file")
    return digest(sha256_of(path.read_bytes()), settings.classes, settings.image_size)


def reader_fingerprint(settings: Reader) -> str:
    """Fingerprint of the text detection and recognition models; PaddleOCR's own models count as "default"."""
    folders = [asset_path(name) if name else None for name in (settings.detection_model, settings.recognition_model)]
    return digest([fingerprint(Path(f)) if f else "default" for f in folders], settings.confidence)
