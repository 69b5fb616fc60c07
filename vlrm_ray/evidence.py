"""From boxes and pixels to what can be said: colours, places, relations, and evidence in words."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vlrm_ray.types import Evidence, Seen, Word

Box = tuple[float, float, float, float]
Relation = Literal["holds", "fails", "unclear"]

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
TOLERANCE = 0.08
"""Relations within this share of the image's side of a tie are left open."""


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = rgb.reshape(1, -1, 3).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[0], np.float32)


_NAMES = [name for name, values in PALETTE.items() for _ in values]
_VALUES = _lab(np.array([v for values in PALETTE.values() for v in values], np.uint8))


def color_of(pixels: NDArray[np.uint8], box: Box) -> str:
    """Colour term of the middle of a box in an RGB image (h, w, 3); "" when two are too close.

    Median CIELAB value over the central ellipse, which a convex object fills, against `PALETTE`.
    """
    height, width = pixels.shape[:2]
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width, max(int(np.ceil(box[2])), x0 + 1)), min(height, max(int(np.ceil(box[3])), y0 + 1))
    crop = pixels[y0:y1, x0:x1]
    if crop.size == 0:
        return ""
    h, w = crop.shape[:2]
    rows, columns = np.mgrid[0:h, 0:w]
    inside = ((rows - h * 0.55) / (h * 0.22 + 0.5)) ** 2 + ((columns - w / 2) / (w * 0.22 + 0.5)) ** 2 <= 1
    middle = crop[inside] if inside.any() else crop.reshape(-1, 3)
    distance = np.linalg.norm(_VALUES - np.median(_lab(middle), axis=0), axis=1)
    nearest: dict[str, float] = {}
    for name, value in zip(_NAMES, distance.tolist(), strict=True):
        nearest[name] = min(value, nearest.get(name, value))
    first, second = sorted(nearest, key=lambda name: nearest[name])[:2]
    return first if nearest[second] - nearest[first] >= COLOR_MARGIN else ""


def relation(name: str, one: Box, two: Box, width: int, height: int) -> Relation:
    """Whether `one` stands in a relation to `two`, from the viewer's point of view.

    left_of, right_of, above, below compare centres; next_to asks for a gap smaller than the larger
    box; on and in ask for overlap. Within `TOLERANCE` of a tie the answer is "unclear".
    """
    (ax, ay), (bx, by) = _centre(one), _centre(two)
    lead = {
        "left_of": (bx - ax) / width,
        "right_of": (ax - bx) / width,
        "above": (by - ay) / height,
        "below": (ay - by) / height,
    }.get(name)
    if lead is not None:
        return "holds" if lead > TOLERANCE else "fails" if lead < -TOLERANCE else "unclear"
    overlap = _intersection(one, two) / max(1e-6, _area(one))
    if name == "in":
        return "holds" if overlap > 0.8 else "fails" if overlap < 0.2 else "unclear"
    gap = max(max(one[0], two[0]) - min(one[2], two[2]), max(one[1], two[1]) - min(one[3], two[3]))
    reach = max(_area(one), _area(two)) ** 0.5
    if name == "next_to":
        return "holds" if gap < 0.5 * reach else "fails" if gap > 1.5 * reach else "unclear"
    if name == "on":
        return "fails" if gap > 0.5 * reach else "unclear"
    return "unclear"


def place_of(box: Box, width: int, height: int) -> str:
    """Which of nine fields of the image a box's centre lies in: "top left" to "bottom right"."""
    x, y = _centre(box)
    row = ("top", "middle", "bottom")[min(2, max(0, int(3 * y / height)))]
    return f"{row} {('left', 'center', 'right')[min(2, max(0, int(3 * x / width)))]}"


def in_words(evidence: Evidence) -> str:
    """The evidence as a critique's description lists it, in reading order.

    A read text is named with the object whose box holds it ("sign STOP middle left").
    """
    parts = [(_reading_order(o.box, evidence), _thing(o, evidence.words, evidence)) for o in evidence.objects]
    loose = [w for w in evidence.words if not any(_holds(o, w) for o in evidence.objects)]
    parts += [
        (_reading_order(w.box, evidence), f"text {w.text} {place_of(w.box, evidence.width, evidence.height)}")
        for w in loose
    ]
    return ", ".join(text for _, text in sorted(parts)) or "nothing"


def _thing(thing: Seen, words: tuple[Word, ...], evidence: Evidence) -> str:
    held = [w.text for w in words if _holds(thing, w)]
    color = "" if held else thing.color
    named = [color, thing.name, *held, place_of(thing.box, evidence.width, evidence.height)]
    return " ".join(part for part in named if part)


def _holds(thing: Seen, word: Word) -> bool:
    x, y = _centre(word.box)
    return thing.box[0] <= x <= thing.box[2] and thing.box[1] <= y <= thing.box[3]


def _reading_order(box: Box, evidence: Evidence) -> tuple[int, int, float, float]:
    x, y = _centre(box)
    return int(3 * y / evidence.height), int(3 * x / evidence.width), y, x


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _intersection(one: Box, two: Box) -> float:
    return _area((max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])))
