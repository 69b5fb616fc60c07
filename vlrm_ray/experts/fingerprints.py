"""What an expert's answers depend on, as one hash: for caches, and to know whose calibration it is."""

from pathlib import Path

from vlrm_ray.config import Detector, Reader, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.ids import digest, fingerprint, sha256_of


def detector_fingerprint(settings: Detector) -> str:
    """Of a checkpoint file with its settings; raises UserError where it is missing."""
    path = Path(asset_path(settings.model))
    if not path.is_file():
        raise UserError(f"detector checkpoint {path} does not exist; set experts.detector.model to a local file")
    return digest(sha256_of(path.read_bytes()), settings.classes, settings.image_size)


def reader_fingerprint(settings: Reader) -> str:
    """Of the text detection and recognition models; PaddleOCR's own models are known by being the default."""
    folders = [asset_path(name) if name else None for name in (settings.detection_model, settings.recognition_model)]
    return digest([fingerprint(Path(f)) if f else "default" for f in folders], settings.confidence)
