"""Adapter for open-vocabulary detectors of transformers (OWLv2, GroundingDINO). Weights must be safetensors."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Detector
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.experts.fingerprints import zero_shot_fingerprint
from vlrm_ray.store.models import local_model
from vlrm_ray.types import Detection

torchvision_shim.install()

from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor  # noqa: E402


class ZeroShot:
    """Detector of the classes named in `experts.detector.classes`.

    Attributes:
        fingerprint: see `DetectorAdapter`.
    """

    def __init__(self, settings: Detector) -> None:
        """Load the model; raises UserError if it cannot be loaded."""
        self.classes = tuple(name.lower() for name in settings.classes)
        self.batch, self.min_score = settings.batch, settings.min_score
        source = local_model(settings.model)
        self.processor, self.model = _load(source)
        self.device = "cuda:0" if settings.pool.gpus > 0 else "cpu"
        self.model.to(self.device).eval()
        revision = "" if Path(source).is_dir() else self.model.config._commit_hash or source
        self.fingerprint = zero_shot_fingerprint(settings, revision)

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """See `vlrm_ray.experts.detection.DetectFn`."""
        words = [list(self.classes)] * len(images)
        inputs = self.processor(images=list(images), text=words, return_tensors="pt", padding=True).to(self.device)
        results = self._boxes(self.model(**inputs), inputs, [image.shape[:2] for image in images])
        return [
            [found for box in zip(*_columns(result), strict=True) if (found := self._detection(image, *box))]
            for image, result in zip(images, results, strict=True)
        ]

    def _boxes(self, outputs: Any, inputs: Any, sizes: list[Any]) -> list[dict[str, Any]]:
        """Boxes, scores and label phrases of each image; `sizes` are (height, width) in pixels."""
        post = self.processor.post_process_grounded_object_detection
        arguments = {
            "threshold": self.min_score,
            "target_sizes": sizes,
            "text_labels": [list(self.classes)] * len(sizes),
        }
        # GroundingDINO only: it labels boxes with fragments of the text prompt
        if "input_ids" in inspect.signature(post).parameters:
            arguments |= {"input_ids": inputs["input_ids"], "text_threshold": self.min_score}
        boxes: list[dict[str, Any]] = post(outputs, **arguments)
        return boxes

    def _detection(self, image: NDArray[np.uint8], phrase: str, score: float, corners: list[float]) -> Detection | None:
        """Detection clipped to the image; None if the phrase matches no class or the box is empty."""
        height, width = image.shape[:2]
        x0, x1 = (min(max(v, 0.0), width) for v in corners[::2])
        y0, y1 = (min(max(v, 0.0), height) for v in corners[1::2])
        name = class_of(phrase, self.classes)
        return Detection(name, (x0, y0, x1, y1), float(score)) if name and x1 > x0 and y1 > y0 else None


def _columns(result: dict[str, Any]) -> tuple[list[str], list[float], list[list[float]]]:
    return result["text_labels"], result["scores"].tolist(), result["boxes"].tolist()


def class_of(phrase: str, classes: tuple[str, ...]) -> str:
    """Class that a label phrase stands for: the longest class name all of whose words occur in it.

    Returns "" if there is none, or if the phrase contains another class name too.
    """
    words = set(phrase.lower().split())
    contained = [name for name in classes if set(name.split()) <= words]
    longest = max(contained, key=lambda name: len(name.split()), default="")
    return longest if all(set(name.split()) <= set(longest.split()) for name in contained) else ""


def _load(source: str) -> tuple[Any, Any]:
    """Processor and model of a folder or hub name; raises UserError."""
    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForZeroShotObjectDetection.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"detector {source} cannot be loaded: {first_line(error)}; give a folder or hub name of OWLv2 or GroundingDINO"
        ) from error
    return processor, model
