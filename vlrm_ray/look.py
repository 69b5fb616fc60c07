"""One look at an image: boxes of two views made one, colours, and what the image is like.

A detector is asked about each image as it is and mirrored. Boxes on one place are one object: its
class is the one with most score, its score the mean over both views (0 where a view misses it), as
weighted boxes fusion has it (Solovyev et al. 2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vlrm_ray.evidence import color_of
from vlrm_ray.geometry import Box, iou
from vlrm_ray.types import Look, Quality, Seen

Pixels = NDArray[np.uint8]
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


Find = Callable[[Sequence[Pixels]], list[list[Seen]]]
"""A detector's verb: for RGB images (h, w, 3) their boxes, without colours."""


def look(images: Sequence[Pixels], find: Find, confidence: float) -> list[Look]:
    """What the detector sees in each RGB image (h, w, 3); boxes below `confidence` are `faint`."""
    mirrored = find([np.ascontiguousarray(image[:, ::-1]) for image in images])
    return [
        _look(image, fuse((plain, _mirror(mirror, image.shape[1]))), confidence)
        for image, plain, mirror in zip(images, find(images), mirrored, strict=True)
    ]


def _look(image: Pixels, seen: Sequence[Seen], confidence: float) -> Look:
    height, width = image.shape[:2]
    objects = tuple(replace(s, color=color_of(image, s.box)) for s in seen if s.score >= confidence)
    faint = tuple(s for s in seen if s.score < confidence)
    return Look(width, height, objects, faint, quality_of(image, [s.box for s in objects]))


def _mirror(seen: Sequence[Seen], width: int) -> list[Seen]:
    return [replace(s, box=(width - s.box[2], s.box[1], width - s.box[0], s.box[3])) for s in seen]


def fuse(views: Sequence[Sequence[Seen]]) -> list[Seen]:
    """One object per place out of the boxes of several views of an image, by falling score."""
    places: list[list[tuple[int, Seen]]] = []
    boxes = [(view, seen) for view, found in enumerate(views) for seen in found]
    for view, seen in sorted(boxes, key=lambda entry: (-entry[1].score, entry[1].box)):
        near = max(places, key=lambda place: iou(place[0][1].box, seen.box), default=None)
        if near is not None and iou(near[0][1].box, seen.box) >= SAME_PLACE:
            near.append((view, seen))
        else:
            places.append([(view, seen)])
    return sorted((_fused(place, len(views)) for place in places), key=lambda seen: -seen.score)


def _fused(place: Sequence[tuple[int, Seen]], views: int) -> Seen:
    best: dict[str, dict[int, Seen]] = {}
    for view, seen in place:  # by falling score: the first of a class and view is its best
        best.setdefault(seen.name, {}).setdefault(view, seen)
    scores = {name: sum(s.score for s in found.values()) / views for name, found in best.items()}
    name, *others = sorted(scores, key=lambda n: -scores[n])
    weights = [s.score for s in best[name].values()]
    box = np.average([s.box for s in best[name].values()], axis=0, weights=weights)
    x0, y0, x1, y1 = (round(float(v), 1) for v in box)
    rival = others[0] if others and scores[others[0]] >= RIVALRY * scores[name] else ""
    return Seen(name, (x0, y0, x1, y1), round(scores[name], 3), rival=rival)


def quality_of(image: Pixels, boxes: Sequence[Box]) -> Quality:
    """Noise, blur and what no box explains, of an RGB image (h, w, 3)."""
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image, np.uint8)
    scaled = [np.array(box) * scale for box in boxes]
    return Quality(round(_noise(small), 2), round(_blur(small), 4), round(_unexplained(small, scaled), 5))


def _noise(image: Pixels) -> float:
    """Noise's standard deviation in grey levels by the operator of Immerkaer (1996), with a median for robustness."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.median(np.abs(cv2.filter2D(grey, -1, kernel)))) / 0.6745 / 6


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
