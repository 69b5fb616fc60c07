"""One look at an image: a detector's boxes made objects, their colours, and what the image is like."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vlrm_ray.experts.evidence import color_of
from vlrm_ray.experts.geometry import Box, iou
from vlrm_ray.types import Detection, Detections, Quality

Pixels = NDArray[np.uint8]
DetectFn = Callable[[Sequence[Pixels]], list[list[Detection]]]
"""A detector's verb: for RGB images (h, w, 3) their boxes, without colours."""
FAINTEST = 0.1
"""Detectors report boxes down to this score; those below the configured confidence are `faint`."""
SAME_PLACE = 0.55
"""Boxes that overlap by this intersection over union are one object."""
RIVALRY = 0.3
"""A second class in the same place counts from this share of the first one's score on."""
_SIDE = 128
"""Quality is measured on the image shrunk to this longer side: comparable, and cheap."""
_STANDS_OUT = 28
"""Grey levels by which a pixel stands out from its surroundings."""


def detect_objects(images: Sequence[Pixels], detect: DetectFn, confidence: float) -> list[Detections]:
    """What the detector sees in each RGB image (h, w, 3); boxes below `confidence` are `faint`."""
    return [_look(image, merged(seen), confidence) for image, seen in zip(images, detect(images), strict=True)]


def _look(image: Pixels, seen: Sequence[Detection], confidence: float) -> Detections:
    height, width = image.shape[:2]
    objects = tuple(replace(s, color=color_of(image, s.box)) for s in seen if s.score >= confidence)
    faint = tuple(s for s in seen if s.score < confidence)
    return Detections(width, height, objects, faint, quality_of(image, [s.box for s in objects]))


def merged(boxes: Sequence[Detection]) -> list[Detection]:
    """One object per place, by falling score: the best box's class, and another class there as its rival."""
    objects: list[Detection] = []
    for seen in sorted(boxes, key=lambda s: (-s.score, s.name, s.box)):
        index = next((i for i, o in enumerate(objects) if iou(o.box, seen.box) >= SAME_PLACE), None)
        if index is None:
            x0, y0, x1, y1 = (round(float(v), 1) for v in seen.box)
            objects.append(replace(seen, box=(x0, y0, x1, y1), score=round(seen.score, 3)))
        elif seen.name != objects[index].name and not objects[index].rival:
            rival = seen.name if seen.score >= RIVALRY * objects[index].score else ""
            objects[index] = replace(objects[index], rival=rival)
    return objects


def quality_of(image: Pixels, boxes: Sequence[Box]) -> Quality:
    """Blur, and what no box explains, of an RGB image (h, w, 3)."""
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image, np.uint8)
    scaled = [np.array(box) * scale for box in boxes]
    return Quality(round(_blur(small), 4), round(_unexplained(small, scaled), 5))


def _blur(image: Pixels) -> float:
    """How much of the steepest edges a further blur leaves, the idea of Crete et al. (2007): all of a blurred one."""
    calm = cv2.medianBlur(image, 3).astype(np.float32)
    return float(min(1.0, _steepest(cv2.blur(calm, (5, 5))) / max(1.0, _steepest(calm))))


def _steepest(image: NDArray[np.float32]) -> float:
    down, across = np.abs(np.diff(image, axis=0))[:, :-1], np.abs(np.diff(image, axis=1))[:-1]
    slopes = np.maximum(down, across).max(axis=2).ravel()
    return float(np.sort(slopes)[-max(1, slopes.size // 256) :].mean())


def _unexplained(image: Pixels, boxes: Sequence[NDArray[np.float64]]) -> float:
    calm = cv2.medianBlur(image, 5)
    around = cv2.medianBlur(calm, 51)
    rest = (cv2.absdiff(calm, around).max(axis=2) > _STANDS_OUT).astype(np.uint8)
    for x0, y0, x1, y1 in boxes:
        rest[max(0, int(y0) - 2) : max(0, int(y1) + 3), max(0, int(x0) - 2) : max(0, int(x1) + 3)] = 0
    return float(rest.mean())
