"""Fingerprint of an expert: one hash over its model files and the settings that change its output.

Fingerprints name the experts' cache folders and tell whether a stored calibration belongs to the configured expert.
"""

from pathlib import Path

from vlrm_ray.config import Detector, Reader, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.experts.named_models import detector_path, reader_paths
from vlrm_ray.ids import digest
from vlrm_ray.store.models import model_fingerprint


def detector_fingerprint(settings: Detector) -> str:
    """Fingerprint of a detector with its settings; "" for a hub name, whose content is known only when it is loaded.

    Raises:
        UserError: the checkpoint file is missing.
    """
    path = Path(detector_path(settings))
    if not is_checkpoint(settings.model):
        return zero_shot_fingerprint(settings) if path.is_dir() else ""
    if not path.is_file():
        raise UserError(f"detector checkpoint {path} does not exist; set experts.detector.model to a file")
    return digest(model_fingerprint(str(path)), settings.classes, settings.image_size, *_min_score(settings))


def zero_shot_fingerprint(settings: Detector, revision: str = "") -> str:
    """Fingerprint of an open-vocabulary detector: of the folder's content, or of the hub's name at a revision."""
    classes = tuple(name.lower() for name in settings.classes)
    return digest(revision or model_fingerprint(settings.model), classes, *_min_score(settings))


def _min_score(settings: Detector) -> tuple[float, ...]:
    """The least score of reported boxes; empty for the default, so that fingerprints are those of older calibrations."""
    return () if settings.min_score == Detector().min_score else (settings.min_score,)


def reader_fingerprint(settings: Reader) -> str:
    """Fingerprint of the text detection and recognition models, which must be on this node."""
    return digest([model_fingerprint(path) for path in reader_paths(settings)], settings.confidence)
