"""Adapter for PaddleOCR 3.7."""

import importlib.machinery
import logging
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vlrm_ray.config import Reader
from vlrm_ray.errors import UserError, first_line, last_line
from vlrm_ray.experts.fingerprints import reader_fingerprint
from vlrm_ray.experts.named_models import reader_paths
from vlrm_ray.types import Word

os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")

MAX_SIDE = 1920
"""Text is searched in a copy whose longer side has at most this many pixels: memory grows by 200 MB per million pixels.
The texts that are found are read in the image itself."""
_FOR_LARGE_IMAGES = {"text_det_limit_side_len": MAX_SIDE, "text_det_limit_type": "max"}


def _stub_modelscope() -> None:
    """Put an empty `modelscope` module in place: PaddleX imports it, and with it torch, only to download models."""
    if "modelscope" not in sys.modules:
        empty = types.ModuleType("modelscope")
        empty.__spec__ = importlib.machinery.ModuleSpec("modelscope", None)
        sys.modules["modelscope"] = empty


class Paddle:
    """OCR reader: text detection and text recognition.

    Attributes:
        fingerprint: hash over everything that changes the words read.
        unlimited: whether the text detection model has no limit of its own for an image's longer side.
    """

    def __init__(self, settings: Reader) -> None:
        """Load the models; raises UserError if a folder is no PaddleOCR model."""
        self.settings = settings
        detection, recognition = map(_checked, reader_paths(settings))
        for folder in (detection, recognition):
            _read_description(folder)
        _stub_modelscope()
        from paddleocr import PaddleOCR

        logging.getLogger("paddlex").setLevel(logging.ERROR)
        parameters = {
            "text_detection_model_name": _name(detection),
            "text_detection_model_dir": detection,
            "text_recognition_model_name": _name(recognition),
            "text_recognition_model_dir": recognition,
            "use_doc_orientation_classify": False,
            "use_doc_unwarping": False,
            "use_textline_orientation": False,
            "device": "gpu" if settings.pool.gpus > 0 else "cpu",
        }
        try:
            self.ocr = PaddleOCR(**parameters, **_parameters(detection), **_engine(settings.engine))
        except Exception as error:  # PaddleX and the inference engines raise many types
            raise UserError(
                f"the PaddleOCR models in {detection} and {recognition} cannot be loaded: {last_line(error)}; restore the folders"
            ) from error
        self.unlimited = _parameters(detection).get("text_det_limit_type") != "max"
        self.fingerprint = reader_fingerprint(settings)

    def read(self, image: NDArray[np.uint8]) -> tuple[Word, ...]:
        """Read the texts in an RGB image (h, w, 3), uint8; those below the configured confidence are left out."""
        pixels = np.ascontiguousarray(image[:, :, ::-1])  # PaddleOCR takes BGR
        limit = _FOR_LARGE_IMAGES if max(image.shape) > MAX_SIDE and self.unlimited else {}
        result = self.ocr.predict(pixels, **limit)[0]
        return tuple(
            _word(text, box, score)
            for text, score, box in zip(result["rec_texts"], result["rec_scores"], result["rec_boxes"], strict=True)
            if text.strip() and score >= self.settings.confidence
        )


def _name(folder: str) -> str:
    """Model name of a folder. PaddleOCR requires the name in its `inference.yml`."""
    return str(_read_description(folder)["Global"]["model_name"])


def _parameters(detection: str) -> dict[str, Any]:
    """Parameters of a text detection model, from its `inference.yml`; PaddleOCR's defaults are for other models."""
    content = _read_description(detection)
    steps = {name: step for entry in content["PreProcess"]["transform_ops"] for name, step in entry.items()}
    resize, post = steps.get("DetResizeForTest") or {}, content["PostProcess"]
    parameters = {
        "text_det_limit_side_len": resize.get("limit_side_len"),
        "text_det_limit_type": resize.get("limit_type"),
        "text_det_thresh": post.get("thresh"),
        "text_det_box_thresh": post.get("box_thresh"),
        "text_det_unclip_ratio": post.get("unclip_ratio"),
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _read_description(folder: str) -> dict[str, Any]:
    """Content of a model folder's `inference.yml`, loaded safely (plain values only); raises UserError."""
    try:
        content: dict[str, Any] = yaml.safe_load(Path(folder, "inference.yml").read_text())
        content["PreProcess"]["transform_ops"], content["PostProcess"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}/inference.yml does not describe a PaddleOCR model: {first_line(error)}; use a folder exported by PaddleOCR"
        ) from error
    return content


def _engine(name: str) -> dict[str, Any]:
    """Arguments of PaddleOCR that select the inference library; one thread per actor."""
    if name == "onnxruntime":
        return {"engine": "onnxruntime", "engine_config": {"intra_op_num_threads": 1, "inter_op_num_threads": 1}}
    return {"enable_mkldnn": False, "cpu_threads": 1}  # oneDNN fails on these models in paddle 3.3


def _checked(folder: str) -> str:
    """A model folder; raises UserError if it is none."""
    if not Path(folder, "inference.yml").is_file():
        raise UserError(
            f"OCR model folder {folder} has no inference.yml; set experts.reader.detection_model and "
            "experts.reader.recognition_model to PaddleOCR model folders, or leave them empty"
        )
    return folder


def _word(text: str, corners: Any, score: float) -> Word:
    x0, y0, x1, y1 = (float(v) for v in corners)
    return Word(text.strip(), (x0, y0, x1, y1), round(float(score), 3))
