"""Colors of photographed objects, and the words that people use for them.

`object_shades` measures the main colors of an object's own pixels: the middle of its box without what looks like the image just
outside the box. `color_strength` says how much of them a color word describes. A word stands for a region of lightness, chroma
and hue in CIELAB (CIE LCh); regions overlap, as the words do: beige things may be called white or brown.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vlrm_ray.experts.geometry import Box
from vlrm_ray.types import Shade

_SIDE = 32
"""Boxes are looked at in a copy with at most this many pixels along the longer side."""
_SHADES = 4
"""Most shades of an object."""
_RADIUS = 14.0
"""Pixels within this CIELAB distance (CIE76) of a shade belong to it."""
_LEAST, _CELL = np.array([0, 128, 128], np.float32), np.array([1024, 32, 1])
"""What makes CIELAB values positive, and weights that give each cell of `_RADIUS` a number."""
_MARGIN = 0.12
"""Width of the frame around a box that is taken for background, as a share of the box's sides."""
_LEAST_OWN = 0.25
"""If fewer of the middle pixels differ from the background, all of them count as the object's."""
_SOFTNESS = (12.0, 10.0, 12.0, 25.0)
"""Differences in lightness, chroma, hue as a CIELAB distance, and hue in degrees, outside a region at which a word no longer
fits."""
_GRAY = 4.0
"""Below this chroma a color has no hue."""


COLORLESS = frozenset({"traffic light"})
"""Classes whose objects' pixels do not have the color that people state: a red traffic light is mostly a black box."""


@dataclass(frozen=True)
class Region:
    """A region of CIE LCh.

    Attributes:
        lightness: from 0 (black) to 100 (white).
        chroma: from 0 (gray) to about 130.
        hue: in degrees from red (about 40) over yellow (100), green (140) and blue (290) to purple (320); it may pass 360.
    """

    lightness: tuple[float, float] = (0, 100)
    chroma: tuple[float, float] = (0, 200)
    hue: tuple[float, float] = (0, 360)

    def fit(self, shade: Shade) -> float:
        """1 inside the region, falling to 0 outside."""
        chroma, hue = math.hypot(shade.a, shade.b), math.degrees(math.atan2(shade.b, shade.a)) % 360
        turned = min(_outside(hue + turn, self.hue) for turn in (-360, 0, 360))
        distances = (
            _outside(shade.light, self.lightness),
            _outside(chroma, self.chroma),
            math.radians(turned) * chroma,
            turned if chroma > _GRAY else 0.0,
        )
        return max(0.0, 1 - max(d / s for d, s in zip(distances, _SOFTNESS, strict=True)))


def _outside(value: float, limits: tuple[float, float]) -> float:
    return max(limits[0] - value, value - limits[1], 0.0)


REGIONS = {
    "red": Region((15, 62), (30, 200), (0, 48)),
    "pink": Region((52, 100), (12, 85), (330, 392)),
    "orange": Region((42, 100), (42, 200), (44, 77)),
    "brown": Region((10, 58), (8, 52), (25, 92)),
    "yellow": Region((60, 100), (35, 200), (76, 113)),
    "green": Region((8, 100), (10, 200), (105, 182)),
    "cyan": Region((30, 100), (12, 200), (175, 228)),
    "blue": Region((5, 100), (9, 200), (215, 312)),
    "purple": Region((8, 78), (12, 200), (298, 347)),
    "black": Region((0, 30), (0, 14)),
    "white": Region((72, 100), (0, 13)),
    "gray": Region((25, 82), (0, 12)),
    "silver": Region((45, 92), (0, 12)),
    "charcoal": Region((8, 40), (0, 11)),
    "navy": Region((0, 36), (6, 200), (235, 312)),
    "teal": Region((15, 62), (10, 200), (170, 228)),
    "maroon": Region((5, 40), (14, 70), (340, 407)),
    "beige": Region((66, 96), (6, 33), (58, 112)),
    "cream": Region((78, 100), (4, 32), (62, 116)),
    "tan": Region((48, 83), (12, 42), (52, 96)),
    "gold": Region((42, 90), (30, 200), (62, 102)),
    "blonde": Region((48, 92), (14, 56), (62, 102)),
    "olive": Region((22, 70), (12, 65), (85, 126)),
    "lavender": Region((58, 92), (8, 50), (285, 342)),
    "magenta": Region((30, 75), (42, 200), (318, 372)),
    "peach": Region((66, 96), (16, 62), (38, 82)),
    "coral": Region((48, 80), (30, 80), (12, 52)),
    "copper": Region((25, 66), (24, 75), (38, 80)),
    "mint": Region((68, 98), (8, 52), (130, 187)),
    "indigo": Region((5, 42), (15, 200), (285, 328)),
}
"""Region of each color word."""
_SAME = {
    "grey": "gray", "golden": "gold", "blond": "blonde", "turquoise": "cyan", "aqua": "cyan", "violet": "purple", "lilac": "lavender",
    "burgundy": "maroon", "crimson": "red", "scarlet": "red", "ivory": "cream", "off white": "cream", "salmon": "coral", "bronze": "copper",
    "rust": "copper", "ginger": "copper", "auburn": "copper", "khaki": "olive", "sandy": "tan", "caramel": "tan", "chocolate": "dark brown",
    "chestnut": "dark brown", "amber": "gold", "mustard": "gold", "navy blue": "navy", "sky blue": "light blue", "baby blue": "light blue",
    "royal blue": "blue", "azure": "blue", "lime": "light green", "lime green": "light green", "forest green": "dark green",
    "emerald": "green", "fuchsia": "magenta", "hot pink": "pink", "rose": "pink", "plum": "dark purple", "cream colored": "cream",
    "greyish": "gray", "grayish": "gray", "brownish": "brown", "reddish": "red", "bluish": "blue", "greenish": "green",
    "yellowish": "yellow", "pinkish": "pink", "whitish": "white",
}  # fmt: skip
"""Words for the same region."""
_BRIGHT = (28.0, 200.0)
_DARKER, _LIGHTER = 12.0, 25.0
"""How far "dark" and "light" reach beyond the lightness of a color word."""


@lru_cache(maxsize=512)
def region_of(word: str) -> Region | None:
    """Region of a color word such as "navy", "dark red" or "light grey"; None for other words."""
    word = " ".join(word.casefold().replace("-", " ").replace("_", " ").split())
    word = _SAME.get(word, word)
    if word in REGIONS:
        return REGIONS[word]
    shade, _, name = word.partition(" ")
    region = region_of(name) if name else None
    if region is None:
        return None
    low, high = region.lightness
    if shade in ("dark", "deep"):
        return replace(region, lightness=(max(0.0, low - _DARKER), low + 0.5 * (high - low)))
    if shade in ("light", "pale"):
        lighter = (low + 0.6 * (high - low), min(100.0, high + _LIGHTER))
        return replace(region, lightness=lighter, chroma=(min(8, region.chroma[0]), region.chroma[1]))
    return replace(region, chroma=_both(region.chroma, _BRIGHT)) if shade in ("bright", "vivid") else None


def _both(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Intersection of two ranges; the second one if they do not meet."""
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low < high else b


def overlap(word: str, other: str) -> bool:
    """Whether two color words may describe the same color."""
    a, b = region_of(word), region_of(other)
    if a is None or b is None:
        return True
    hues = any(_meet((a.hue[0] + turn, a.hue[1] + turn), b.hue) for turn in (-360, 0, 360))
    return hues and _meet(a.lightness, b.lightness) and _meet(a.chroma, b.chroma)


def _meet(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return max(a[0], b[0]) < min(a[1], b[1])


def color_strength(word: str, shades: Iterable[Shade]) -> float | None:
    """Share of an object that a color word describes, 0 to 1; None for a word without a region ("striped")."""
    region = region_of(word)
    return None if region is None else min(1.0, sum(shade.share * region.fit(shade) for shade in shades))


def object_shades(pixels: NDArray[np.uint8], box: Box) -> tuple[Shade, ...]:
    """Main colors of the object in a box of an RGB image (h, w, 3), most frequent first; none for an empty box."""
    height, width = pixels.shape[:2]
    dx, dy = _MARGIN * (box[2] - box[0]) + 2, _MARGIN * (box[3] - box[1]) + 2
    x0, y0 = max(0, int(box[0] - dx)), max(0, int(box[1] - dy))
    x1, y1 = min(width, math.ceil(box[2] + dx)), min(height, math.ceil(box[3] + dy))
    crop = pixels[y0:y1, x0:x1]
    if not crop.size:
        return ()
    scale = min(1.0, _SIDE / max(crop.shape[:2]))
    size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA) if scale < 1 else crop, np.float32) / 255
    lab = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    x, y = x0 + (columns + 0.5) / scale, y0 + (rows + 0.5) / scale
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = max(1.0, (box[2] - box[0]) / 2), max(1.0, (box[3] - box[1]) / 2)
    inside = ((x - middle[0]) / (0.8 * half[0])) ** 2 + ((y - middle[1]) / (0.8 * half[1])) ** 2 <= 1
    outside = (np.abs(x - middle[0]) > half[0]) | (np.abs(y - middle[1]) > half[1])
    own = lab[inside] if inside.any() else lab.reshape(-1, 3)
    background = _main_colors(lab[outside])
    if background:
        centers = np.array([center for center, _ in background])
        distances = ((own[:, None] - centers[None]) ** 2).sum(axis=2).min(axis=1)
        different = own[distances > _RADIUS**2]
        own = different if len(different) >= _LEAST_OWN * len(own) else own
    return tuple(Shade(*_rounded(center), share=round(share, 3)) for center, share in _main_colors(own))


def _rounded(center: NDArray[np.float32]) -> tuple[float, float, float]:
    light, a, b = (round(float(value), 1) for value in center)
    return light, a, b


def _main_colors(lab: NDArray[np.float32]) -> Sequence[tuple[NDArray[np.float32], float]]:
    """Up to `_SHADES` colors of CIELAB values (n, 3), each with its share of them, most frequent first."""
    left, colors = lab, list[tuple[NDArray[np.float32], float]]()
    while len(left) >= max(1, 0.05 * len(lab)) and len(colors) < _SHADES:
        cells = np.rint((left + _LEAST) / _RADIUS).astype(np.int64) @ _CELL
        center = left[cells == np.bincount(cells).argmax()].mean(axis=0)
        near = ((left - center) ** 2).sum(axis=1) <= _RADIUS**2
        colors.append((center, float(near.sum()) / len(lab)))
        left = left[~near]
    return sorted(colors, key=lambda color: -color[1])
