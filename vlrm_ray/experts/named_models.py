"""Models of the experts that their own libraries know by name, such as "yolo11m.pt", and where a node keeps them.

    $VLRM_CACHE/named/yolo11m.pt                              a checkpoint that ultralytics publishes
    $VLRM_CACHE/paddlex/official_models/PP-OCRv6_medium_det/  a model that PaddleOCR publishes

`actors/downloads.py` fetches them, once a node. Here they are only looked up, so that no library is needed.
"""

from pathlib import Path

from vlrm_ray.config import ASSETS, Detector, Experts, Reader, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.store.filesystem import is_remote
from vlrm_ray.store.models import local_model, model_fingerprint
from vlrm_ray.store.node_cache import node_cache

DETECTION_MODEL, RECOGNITION_MODEL = "PP-OCRv6_medium_det", "PP-OCRv6_medium_rec"
"""The models that an empty `experts.reader.detection_model` and `.recognition_model` stand for: PaddleOCR 3.7's default."""


def checkpoint_name(model: str) -> str:
    """The name under which ultralytics publishes a configured detector; "" if it is a file, a folder or a hub name."""
    is_name = is_checkpoint(model) and "/" not in model and not model.startswith(ASSETS)
    return model if is_name and not Path(model).exists() else ""


def ocr_name(model: str, default: str) -> str:
    """The name under which PaddleOCR publishes a configured OCR model; "" if it is a folder."""
    if not model:
        return default
    is_name = "/" not in model and not model.startswith((ASSETS, ".", "~")) and not is_remote(model)
    return model if is_name and not Path(model).exists() else ""


def paddle_home() -> Path:
    """The folder in which PaddleOCR keeps its own models on this node."""
    return Path(node_cache().folder, "paddlex")


def detector_path(settings: Detector) -> str:
    """Path of a detector on this node; that of a checkpoint known by name may not exist yet. Raises UserError."""
    name = checkpoint_name(settings.model)
    return str(Path(node_cache().folder, "named", name)) if name else local_model(settings.model)


def reader_paths(settings: Reader) -> tuple[str, str]:
    """Folders of the text detection and recognition model; see `detector_path`."""
    return detection_folder(settings), recognition_folder(settings)


def detection_folder(settings: Reader) -> str:
    """Folder of the text detection model; see `detector_path`."""
    return _ocr_folder(settings.detection_model, DETECTION_MODEL)


def recognition_folder(settings: Reader) -> str:
    """Folder of the text recognition model; see `detector_path`."""
    return _ocr_folder(settings.recognition_model, RECOGNITION_MODEL)


def _ocr_folder(model: str, default: str) -> str:
    name = ocr_name(model, default)
    return str(paddle_home() / "official_models" / name) if name else local_model(model)


def content_hashes(experts: Experts) -> dict[str, str]:
    """Hash of each expert's model by its configuration key; a model on a hub has none.

    The models must be on this node. Raises UserError if one cannot be read.
    """
    paths = {"experts.detector.model": detector_path(experts.detector)}
    if experts.reader.enabled:
        detection, recognition = reader_paths(experts.reader)
        paths |= {"experts.reader.detection_model": detection, "experts.reader.recognition_model": recognition}
    return {key: model_fingerprint(path) for key, path in paths.items() if Path(path).exists()}


def check_zero_shot(settings: Detector) -> None:
    """Check that a detector that is no checkpoint may be a zero-shot model; raises UserError for a file, or without classes."""
    if Path(settings.model).is_file():
        raise UserError(
            f"experts.detector.model: {settings.model} is no YOLO checkpoint (.pt, .onnx); give one, or the folder or hub name of "
            "an OWLv2 or GroundingDINO model"
        )
    if not settings.classes:
        raise UserError(
            f"experts.detector.model: {settings.model} is taken for an OWLv2 or GroundingDINO model, which needs class names; "
            "list them in experts.detector.classes"
        )
