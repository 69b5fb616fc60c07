"""Adapter for ultralytics (AGPL-3.0, written against 8.4): closed and open vocabulary."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Detector, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import FAINTEST
from vlrm_ray.experts.fingerprints import detector_fingerprint
from vlrm_ray.ids import sha256_of
from vlrm_ray.types import Detection

# set before the import: no network, no telemetry, no installing at run time, no code out of
# checkpoints (only known classes are unpickled), settings nobody shares
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

ultralytics_settings.update({"sync": False})

SUFFIXES = (".pt", ".onnx")
"""Kinds of checkpoint: pickles read with an allow-list of classes, and graphs that hold no code."""


class Yolo:
    """A detector out of a checkpoint file."""

    def __init__(self, settings: Detector) -> None:
        self.settings = settings
        self.fingerprint = detector_fingerprint(settings)
        path = Path(asset_path(settings.model))
        if path.suffix not in SUFFIXES:
            raise UserError(f"detector checkpoint {path} is not one of {', '.join(SUFFIXES)}")
        content = sha256_of(path.read_bytes())
        if settings.sha256 and settings.sha256 != content:
            raise UserError(f"detector checkpoint {path} has sha256 {content}, not the one in experts.detector.sha256")
        self.model = _loaded(path, settings.classes)
        self.device = "cuda:0" if settings.pool.gpus > 0 else "cpu"

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """See `vlrm_ray.experts.detection.DetectFn`."""
        results = self.model.predict(
            [np.ascontiguousarray(image[:, :, ::-1]) for image in images],  # ultralytics takes BGR
            imgsz=self.settings.image_size,
            conf=FAINTEST,
            iou=0.5,
            device=self.device,
            verbose=False,
        )
        return [
            [
                Detection(result.names[int(kind)], (x0, y0, x1, y1), float(score))
                for kind, score, (x0, y0, x1, y1) in zip(
                    result.boxes.cls, result.boxes.conf, result.boxes.xyxy.tolist(), strict=True
                )
            ]
            for result in results
        ]


def _loaded(path: Path, classes: tuple[str, ...]) -> YOLO:
    """The model, looking for `classes` where given; raises UserError for a file that is no plain checkpoint."""
    try:
        model = YOLO(str(path), task="detect")
        if classes:
            model.set_classes(list(classes))
    except (TypeError, ModuleNotFoundError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"detector checkpoint {path} is refused: {reason}; use weights as ultralytics saves them"
        ) from error
    return model
