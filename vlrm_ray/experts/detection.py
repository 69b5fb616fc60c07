"""From raw detector boxes to `Detections`: overlapping boxes merged, colors named, image quality measured."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vlrm_ray.experts.colors import object_shades
from vlrm_ray.experts.evidence import box_color
from vlrm_ray.experts.geometry import Box, iou
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.types import Detection, Detections, Quality

Pixels = NDArray[np.uint8]
"""An RGB image, shape (h, w, 3)."""
DetectFn = Callable[[Sequence[Pixels]], list[list[Detection]]]
"""Runs a detector on a batch of images; returns the boxes of each image, without colors."""
DETECTIONS = 2
"""Version of what is computed from a detector's boxes; part of the name of the cache."""
SAME_OBJECT_IOU = 0.55
"""Boxes with at least this intersection over union belong to one object."""
RIVAL_SCORE_RATIO = 0.3
"""A second class for the same object is recorded as `rival` from this share of the best score on."""
_QUALITY_SIDE = 128
"""Quality is measured on a copy whose longer side has at most this many pixels: fast, and comparable across sizes."""
_CONTRAST_LEVELS = 28
"""Difference in gray levels (0 to 255) from which a pixel counts as different from its surroundings."""


def detect_objects(images: Sequence[Pixels], detect: DetectFn, confidence: float) -> list[Detections]:
    """Detect the objects in a batch of images and add colors and image quality.

    Args:
        images: RGB images (h, w, 3).
        detect: the detector.
        confidence: boxes with a lower score are reported as `faint`.
    """
    return [
        _complete(image, merge_overlapping(boxes), confidence)
        for image, boxes in zip(images, detect(images), strict=True)
    ]


def _complete(image: Pixels, boxes: Sequence[Detection], confidence: float) -> Detections:
    height, width = image.shape[:2]
    objects = tuple(_colored(image, b) for b in boxes if b.score >= confidence)
    faint = tuple(b for b in boxes if b.score < confidence)
    return Detections(width, height, objects, faint, measure_quality(image, [o.box for o in objects]))


def _colored(image: Pixels, box: Detection) -> Detection:
    """A box with its color. People have none: it would be that of their clothes, and a "black person" is no statement on those."""
    if noun_hierarchy().includes("person", box.name):
        return box
    return replace(box, color=box_color(image, box.box), shades=object_shades(image, box.box))


def merge_overlapping(boxes: Sequence[Detection]) -> list[Detection]:
    """Merge boxes of the same object, by descending score.

    The object keeps the box and class of the highest score. The best other class that scores at least
    `RIVAL_SCORE_RATIO` of that becomes its `rival`.
    """
    objects: list[Detection] = []
    for box in sorted(boxes, key=lambda b: (-b.score, b.name, b.box)):
        index = next((i for i, o in enumerate(objects) if iou(o.box, box.box) >= SAME_OBJECT_IOU), None)
        if index is None:
            x0, y0, x1, y1 = (round(float(v), 1) for v in box.box)
            objects.append(replace(box, box=(x0, y0, x1, y1), score=round(box.score, 3)))
        elif box.name != objects[index].name and not objects[index].rival:
            rival = box.name if box.score >= RIVAL_SCORE_RATIO * objects[index].score else ""
            objects[index] = replace(objects[index], rival=rival)
    return objects


def measure_quality(image: Pixels, boxes: Sequence[Box]) -> Quality:
    """Blur of an RGB image (h, w, 3), and the share of it that has structure but lies in none of the boxes."""
    scale = min(1.0, _QUALITY_SIDE / max(image.shape[:2]))
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image, np.uint8)
    scaled = [np.array(box) * scale for box in boxes]
    return Quality(round(_blur(small), 4), round(_unexplained(small, scaled), 5))


def _blur(image: Pixels) -> float:
    """Blur from 0 (sharp) to 1: steepest edges after another blur, divided by the steepest edges before it.

    Blurring changes a sharp image much and a blurred one little; the idea is that of Crete et al., "The blur effect:
    perception and estimation with a new no-reference perceptual blur metric" (2007).
    """
    denoised = cv2.medianBlur(image, 3).astype(np.float32)
    return float(min(1.0, _edge_strength(cv2.blur(denoised, (5, 5))) / max(1.0, _edge_strength(denoised))))


def _edge_strength(image: NDArray[np.float32]) -> float:
    """Mean of the steepest 1/256 of the gradients of an image (h, w, 3); 0 for an image of one pixel in a direction."""
    vertical, horizontal = np.abs(np.diff(image, axis=0))[:, :-1], np.abs(np.diff(image, axis=1))[:-1]
    slopes = np.maximum(vertical, horizontal).max(axis=2).ravel()
    return float(np.sort(slopes)[-max(1, slopes.size // 256) :].mean()) if slopes.size else 0.0


def _unexplained(image: Pixels, boxes: Sequence[NDArray[np.float64]]) -> float:
    """Share of the pixels that differ from their surroundings and lie in no box."""
    denoised = cv2.medianBlur(image, 5)
    background = cv2.medianBlur(denoised, 51)
    mask = (cv2.absdiff(denoised, background).max(axis=2) > _CONTRAST_LEVELS).astype(np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[max(0, int(y0) - 2) : max(0, int(y1) + 3), max(0, int(x0) - 2) : max(0, int(x1) + 3)] = 0
    return float(mask.mean())
