"""Adapter for ultralytics (AGPL-3.0, written against 8.4): closed and open vocabulary."""

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Detector, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.evidence import color_of
from vlrm_ray.ids import digest, sha256_of
from vlrm_ray.types import Seen

# set before the import: no network, no telemetry, no installing at run time, settings nobody shares
os.environ.update(YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0", ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1", YOLO_VERBOSE="0")
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="vlrm-yolo-"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
torchvision_shim.install()

from ultralytics import YOLO  # noqa: E402
from ultralytics import settings as ultralytics_settings  # noqa: E402

ultralytics_settings.update({"sync": False})


class Yolo:
    """A detector. The checkpoint is a pickle: set `sha256` for one you did not make yourself."""

    def __init__(self, settings: Detector) -> None:
        self.settings = settings
        path = Path(asset_path(settings.model))
        if not path.is_file():
            raise UserError(f"detector checkpoint {path} does not exist; set experts.detector.model to a local file")
        content = sha256_of(path.read_bytes())
        if settings.sha256 and settings.sha256 != content:
            raise UserError(f"detector checkpoint {path} has sha256 {content}, not the one in experts.detector.sha256")
        self.model = YOLO(str(path))
        if settings.classes:
            self.model.set_classes(list(settings.classes))
        self.device = "cuda:0" if settings.pool.gpus > 0 else "cpu"
        self.fingerprint = digest(content, settings.classes, settings.image_size, settings.confidence)

    def detect(self, images: list[NDArray[np.uint8]]) -> list[tuple[Seen, ...]]:
        """Objects in each RGB image (h, w, 3), with the colour of their middle."""
        results = self.model.predict(
            [np.ascontiguousarray(image[:, :, ::-1]) for image in images],  # ultralytics takes BGR
            imgsz=self.settings.image_size,
            conf=self.settings.confidence,
            iou=0.5,
            agnostic_nms=True,
            device=self.device,
            verbose=False,
        )
        return [
            tuple(
                _seen(result.names[int(kind)], box, score, image)
                for kind, score, box in zip(
                    result.boxes.cls, result.boxes.conf, result.boxes.xyxy.tolist(), strict=True
                )
            )
            for image, result in zip(images, results, strict=True)
        ]


def _seen(name: str, corners: list[float], score: float, image: NDArray[np.uint8]) -> Seen:
    x0, y0, x1, y1 = (round(v, 1) for v in corners)
    box = (x0, y0, x1, y1)
    return Seen(name, box, round(float(score), 3), color_of(image, box))
