"""From boxes and pixels to what can be said: colours, places, and evidence in words."""

import cv2
import numpy as np
from numpy.typing import NDArray

from vlrm_ray.experts.geometry import Box, centre
from vlrm_ray.types import Detection, Detections, Evidence, Word

PALETTE: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((214, 39, 40), (180, 20, 30)),
    "green": ((44, 160, 44), (20, 110, 40)),
    "blue": ((31, 80, 200), (30, 40, 130), (90, 150, 220)),
    "yellow": ((245, 215, 30), (225, 195, 30)),
    "purple": ((140, 50, 175), (100, 60, 140)),
    "orange": ((255, 140, 0), (230, 125, 10)),
    "pink": ((255, 130, 180),),
    "cyan": ((20, 200, 210),),
    "brown": ((130, 80, 40), (95, 60, 35)),
    "black": ((20, 20, 20),),
    "white": ((245, 245, 245),),
    "gray": ((128, 128, 128), (180, 180, 180)),
}
"""Typical RGB values of the basic colour terms."""
COLOR_MARGIN = 6.0
"""Smallest lead of the nearest colour over the second, in CIELAB distance, for a colour to be named."""


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = rgb.reshape(1, -1, 3).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[0], np.float32)


_NAMES = [name for name, values in PALETTE.items() for _ in values]
_VALUES = _lab(np.array([v for values in PALETTE.values() for v in values], np.uint8))


def color_of(pixels: NDArray[np.uint8], box: Box) -> str:
    """Colour term of the middle of a box in an RGB image (h, w, 3); "" when it is not certain.

    Median CIELAB value over the central ellipse, which a convex object fills, against `PALETTE`.
    Two colours about equally near leave it uncertain, and so do halves of the ellipse that differ:
    something covers the object, or it has more than one colour.
    """
    height, width = pixels.shape[:2]
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width, max(int(np.ceil(box[2])), x0 + 1)), min(height, max(int(np.ceil(box[3])), y0 + 1))
    crop = pixels[y0:y1, x0:x1]
    if crop.size == 0:
        return ""
    h, w = crop.shape[:2]
    rows, columns = np.mgrid[0:h, 0:w]
    down, across = rows - h * 0.55, columns - w / 2
    inside = (down / (h * 0.22 + 0.5)) ** 2 + (across / (w * 0.22 + 0.5)) ** 2 <= 1
    lab = _lab(crop).reshape(h, w, 3)
    first, lead = _nearest(lab[inside] if inside.any() else lab.reshape(-1, 3))
    if lead < COLOR_MARGIN:
        return ""
    halves = (inside & (down < 0), inside & (down > 0), inside & (across < 0), inside & (across > 0))
    return first if all(_nearest(lab[half])[0] == first for half in halves if half.any()) else ""


def _nearest(lab: NDArray[np.float32]) -> tuple[str, float]:
    """Nearest colour term of the median of CIELAB values (n, 3), and its lead over the second."""
    distance = np.linalg.norm(_VALUES - np.median(lab, axis=0), axis=1)
    nearest: dict[str, float] = {}
    for name, value in zip(_NAMES, distance.tolist(), strict=True):
        nearest[name] = min(value, nearest.get(name, value))
    first, second = sorted(nearest, key=lambda name: nearest[name])[:2]
    return first, nearest[second] - nearest[first]


def grid_position(box: Box, width: int, height: int) -> str:
    """Which of nine fields of the image a box's centre lies in: "top left" to "bottom right"."""
    x, y = centre(box)
    row = ("top", "middle", "bottom")[min(2, max(0, int(3 * y / height)))]
    return f"{row} {('left', 'center', 'right')[min(2, max(0, int(3 * x / width)))]}"


def describe_evidence(evidence: Evidence) -> str:
    """The evidence as a critique's description lists it, in reading order.

    A read text is named with the object whose box holds it ("sign STOP middle left").
    """
    parts = [(_reading_order(o.box, evidence), _thing(o, evidence.words, evidence)) for o in evidence.objects]
    loose = [w for w in evidence.words if not any(holds(o, w) for o in evidence.objects)]
    parts += [
        (_reading_order(w.box, evidence), f"text {w.text} {grid_position(w.box, evidence.width, evidence.height)}")
        for w in loose
    ]
    return ", ".join(text for _, text in sorted(parts)) or "nothing"


def combine_evidence(look: Detections, words: tuple[Word, ...] = ()) -> Evidence:
    """The evidence of one image, from what its two experts saw."""
    return Evidence(look.width, look.height, look.objects, words, look.faint, look.quality)


def _thing(thing: Detection, words: tuple[Word, ...], evidence: Evidence) -> str:
    held = [w.text for w in words if holds(thing, w)]
    color = "" if held else thing.color
    named = [color, thing.name, *held, grid_position(thing.box, evidence.width, evidence.height)]
    return " ".join(part for part in named if part)


def holds(thing: Detection, word: Word) -> bool:
    """Whether an object carries a word: the word's centre lies in its box."""
    x, y = centre(word.box)
    return thing.box[0] <= x <= thing.box[2] and thing.box[1] <= y <= thing.box[3]


def _reading_order(box: Box, evidence: Evidence) -> tuple[int, int, float, float]:
    x, y = centre(box)
    return int(3 * y / evidence.height), int(3 * x / evidence.width), y, x
