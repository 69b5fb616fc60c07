"""Adapter for ultralytics 8.4 (AGPL-3.0): YOLO detectors with a closed or open vocabulary."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Detector
from vlrm_ray.errors import UserError, first_line, last_line
from vlrm_ray.experts.fingerprints import detector_fingerprint
from vlrm_ray.experts.named_models import detector_path
from vlrm_ray.reward.model_folder import refuse_pointers
from vlrm_ray.store.models import model_fingerprint
from vlrm_ray.types import Detection

# Set before the import: no network access, telemetry or package installation; checkpoints are unpickled with an
# allow-list of classes; the settings file is private to this process.
os.environ.update(
    YOLO_OFFLINE="1",
    YOLO_AUTOINSTALL="0",
    ULTRALYTICS_SAFE_LOAD="1",
    ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1",
    YOLO_VERBOSE="0",
)
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="vlrm-yolo-"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
torchvision_shim.install()

from ultralytics import YOLO  # noqa: E402
from ultralytics import settings as ultralytics_settings  # noqa: E402
from ultralytics.models.yolo.detect import DetectionPredictor  # noqa: E402
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset  # noqa: E402

ultralytics_settings.update({"sync": False})

SUFFIXES = (".pt", ".onnx")
"""Suffixes of accepted checkpoints. Both load safely: .pt with an allow-list of classes; ONNX graphs have no code."""


class _Predictor(DetectionPredictor):  # type: ignore[misc]
    """Predictor that postprocesses each image by itself.

    ultralytics gives up non-maximum suppression of a batch after some seconds and returns no boxes for the images
    that are left. On a busy machine an expert would then report an image as empty. The limit is checked after an
    image, so it cannot cut a batch of one short.
    """

    def postprocess(self, preds: Any, img: Any, orig_imgs: list[Any], **kwargs: Any) -> list[Any]:
        """Results of the images, in order; see `DetectionPredictor.postprocess`."""
        boxes = preds[0] if isinstance(preds, list | tuple) else preds
        single = super().postprocess
        return [
            result
            for i in range(len(boxes))
            for result in single(boxes[i : i + 1], img[i : i + 1], orig_imgs[i : i + 1], **kwargs)
        ]


class Yolo:
    """YOLO detector from a checkpoint file.

    Attributes:
        fingerprint: see `DetectorAdapter`.
    """

    def __init__(self, settings: Detector) -> None:
        """Load the checkpoint.

        Raises:
            UserError: the file is missing, unsafe, damaged, or has another sha256 than configured.
        """
        self.settings = settings
        path = Path(detector_path(settings))
        self.fingerprint = detector_fingerprint(settings)
        if path.suffix not in SUFFIXES:
            raise UserError(
                f"detector checkpoint {path} has the suffix {path.suffix or '(none)'}, expected "
                f"{' or '.join(SUFFIXES)}; set experts.detector.model to such a file"
            )
        refuse_pointers("experts.detector.model", path)
        content = model_fingerprint(str(path))
        if settings.sha256 and settings.sha256 != content:
            raise UserError(
                f"detector checkpoint {path} has sha256 {content}, but experts.detector.sha256 is {settings.sha256}; "
                "restore the file, or correct the key"
            )
        self.model = _load(path, settings.classes)
        self.device = "cuda:0" if settings.pool.gpus > 0 else "cpu"
        if path.suffix == ".onnx":
            self._open(path)

    def _open(self, path: Path) -> None:
        """Look at an empty image: ultralytics opens an ONNX file at its first use. Raises UserError for a damaged file."""
        try:
            self.detect([np.zeros((64, 64, 3), np.uint8)])
        except Exception as error:  # ONNX Runtime and ultralytics raise many types
            raise UserError(
                f"detector checkpoint {path} cannot be opened: {last_line(error)}; restore the file"
            ) from error

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """See `vlrm_ray.experts.detection.DetectFn`."""
        results = self.model.predict(
            predictor=_Predictor,
            source=[np.ascontiguousarray(image[:, :, ::-1]) for image in images],  # BGR is expected
            imgsz=self.settings.image_size,
            conf=self.settings.min_score,
            iou=0.5,
            rect=False,  # each image is padded to a square, so that its boxes do not depend on the rest of the batch
            device=self.device,
            verbose=False,
        )
        return [
            [
                Detection(result.names[int(index)], (x0, y0, x1, y1), float(score))
                for index, score, (x0, y0, x1, y1) in zip(
                    result.boxes.cls, result.boxes.conf, result.boxes.xyxy.tolist(), strict=True
                )
            ]
            for result in results
        ]


def _load(path: Path, classes: tuple[str, ...]) -> YOLO:
    """Load a checkpoint and set `classes`, if given; raises UserError for an unsafe or damaged file."""
    try:
        model = YOLO(str(path), task="detect")
        if classes:
            model.set_classes(list(classes))
    except (TypeError, ModuleNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"detector checkpoint {path} is refused: {first_line(error)}; use a checkpoint saved by ultralytics"
        ) from error
    return model


def published_checkpoints() -> frozenset[str]:
    """Names of the checkpoints that ultralytics publishes."""
    return frozenset(name for name in GITHUB_ASSETS_NAMES if name.endswith(".pt"))


def download_checkpoint(name: str, path: Path) -> None:
    """Download a published checkpoint; raises ConnectionError if that fails."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        attempt_download_asset(Path(folder, name), progress=False)
        if not Path(folder, name).is_file():
            raise ConnectionError("ultralytics' releases do not have it")
        Path(folder, name).replace(path)
