"""Colors of boxes, positions in the image, and the text form of the evidence.

The text is the prefix of a critique in the format `compact`, and a hint in the prompt in `detailed`.
"""

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
"""Typical RGB values of each color name."""
_COLOR_SIDE = 512
"""Of larger boxes, evenly spaced pixels are looked at: this many or more along the longer side."""
NOTHING = "nothing"
"""Text of empty evidence."""
COLOR_MARGIN = 6.0
"""A color is named only if the second nearest one is farther by this much, in CIELAB units (CIE76 distance)."""


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB values (n, 3) of RGB values (..., 3)."""
    scaled = rgb.reshape(1, -1, 3).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[0], np.float32)


_NAMES = [name for name, values in PALETTE.items() for _ in values]
_VALUES = _lab(np.array([v for values in PALETTE.values() for v in values], np.uint8))


def box_color(pixels: NDArray[np.uint8], box: Box) -> str:
    """Color name of the object in a box; "" if it is uncertain.

    Takes the median CIELAB value over an ellipse in the middle of the box, which most objects fill, and looks up the
    nearest color of `PALETTE`. The color is uncertain if two colors are about equally near, or if the halves of the
    ellipse differ: the object is then partly covered or has several colors.

    Args:
        pixels: RGB image (h, w, 3).
        box: box in pixels; the part outside the image is ignored.
    """
    height, width = pixels.shape[:2]
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width, max(int(np.ceil(box[2])), x0 + 1)), min(height, max(int(np.ceil(box[3])), y0 + 1))
    step = max(1, max(y1 - y0, x1 - x0) // _COLOR_SIDE)
    crop = pixels[y0:y1:step, x0:x1:step]
    if crop.size == 0:
        return ""
    h, w = crop.shape[:2]
    rows, columns = np.mgrid[0:h, 0:w]
    dy, dx = rows - h * 0.55, columns - w / 2
    inside = (dy / (h * 0.22 + 0.5)) ** 2 + (dx / (w * 0.22 + 0.5)) ** 2 <= 1
    lab = _lab(crop).reshape(h, w, 3)
    color, lead = _nearest_color(lab[inside] if inside.any() else lab.reshape(-1, 3))
    if lead < COLOR_MARGIN:
        return ""
    halves = (inside & (dy < 0), inside & (dy > 0), inside & (dx < 0), inside & (dx > 0))
    return color if all(_nearest_color(lab[half])[0] == color for half in halves if half.any()) else ""


def _nearest_color(lab: NDArray[np.float32]) -> tuple[str, float]:
    """Color name nearest to the median of CIELAB values (n, 3), and how much farther the second nearest is."""
    distances = np.linalg.norm(_VALUES - np.median(lab, axis=0), axis=1)
    nearest: dict[str, float] = {}
    for name, distance in zip(_NAMES, distances.tolist(), strict=True):
        nearest[name] = min(distance, nearest.get(name, distance))
    first, second = sorted(nearest, key=lambda name: nearest[name])[:2]
    return first, nearest[second] - nearest[first]


def grid_position(box: Box, width: int, height: int) -> str:
    """Cell of a 3 x 3 grid over the image that holds the center of a box: "top left" to "bottom right"."""
    x, y = centre(box)
    row = ("top", "middle", "bottom")[min(2, max(0, int(3 * y / height)))]
    return f"{row} {('left', 'center', 'right')[min(2, max(0, int(3 * x / width)))]}"


def describe_evidence(evidence: Evidence) -> str:
    """Text form of the evidence, in reading order, for a critique's prefix or for the hint in its prompt.

    Example: "red circle top left, sign STOP middle left". A word is listed with the object whose box contains it.
    Returns "nothing" for empty evidence.
    """
    parts = [(_reading_order(o.box, evidence), _describe(o, evidence)) for o in evidence.objects]
    loose = [w for w in evidence.words if not any(contains_word(o, w) for o in evidence.objects)]
    parts += [
        (_reading_order(w.box, evidence), f"text {w.text} {grid_position(w.box, evidence.width, evidence.height)}")
        for w in loose
    ]
    return ", ".join(text for _, text in sorted(parts)) or NOTHING


def combine_evidence(detections: Detections, words: tuple[Word, ...] = ()) -> Evidence:
    """Evidence of one image from the detector's output and the words that OCR read."""
    return Evidence(
        detections.width, detections.height, detections.objects, words, detections.faint, detections.quality
    )


def contains_word(detection: Detection, word: Word) -> bool:
    """Whether the center of a word lies in the box of an object."""
    x, y = centre(word.box)
    return detection.box[0] <= x <= detection.box[2] and detection.box[1] <= y <= detection.box[3]


def _describe(detection: Detection, evidence: Evidence) -> str:
    words = [w.text for w in evidence.words if contains_word(detection, w)]
    color = "" if words else detection.color
    position = grid_position(detection.box, evidence.width, evidence.height)
    return " ".join(part for part in (color, detection.name, *words, position) if part)


def _reading_order(box: Box, evidence: Evidence) -> tuple[int, int, float, float]:
    """Sort key: row and column of the 3 x 3 grid, then y and x."""
    x, y = centre(box)
    return int(3 * y / evidence.height), int(3 * x / evidence.width), y, x
