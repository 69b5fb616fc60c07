"""Draws a scene. Every pixel is determined by the scene and its seed."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlrm_ray.scenes.world import COLORS, GRID, SIGN, Scene, SceneObject

SIZE = 128
"""Side of an image, in pixels."""
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""
Rgb = tuple[int, int, int]

_SCALE = 2  # drawn at twice the size, then downsampled, for smooth edges
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FACES = ("DejaVuSans-Bold.ttf", "DejaVuSans.ttf", "DejaVuSansMono-Bold.ttf")
_BACKGROUNDS = (
    (238, 238, 236),
    (222, 230, 238),
    (250, 244, 228),
    (226, 236, 222),
    (240, 226, 228),
    (206, 206, 210),
)


@dataclass(frozen=True)
class RenderedScene:
    """A drawn scene: an RGB image of SIZE x SIZE pixels, and the box of each object in the scene's order."""

    image: Image.Image
    boxes: tuple[Box, ...]


def paint(scene: Scene, palette: Mapping[str, Rgb] = COLORS) -> RenderedScene:
    """Draw the scene's objects in order, later ones over earlier ones; `palette` has the RGB values of each color."""
    rng = random.Random(f"paint-{scene.seed}")
    canvas = _background(rng)
    draw = ImageDraw.Draw(canvas)
    boxes = tuple(
        _draw_sign(draw, obj, rng) if obj.shape == SIGN else _draw_shape(draw, obj, palette[obj.color], rng)
        for obj in scene.objects
    )
    return RenderedScene(_with_grain(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), rng), boxes)


def centre(obj: SceneObject) -> tuple[float, float]:
    """Center (x, y) of an object in pixels."""
    cell = SIZE / GRID
    return (obj.col + 0.5 + obj.dx) * cell, (obj.row + 0.5 + obj.dy) * cell


def _background(rng: random.Random) -> Image.Image:
    """A random background color with a linear brightness gradient, at _SCALE times the size."""
    base = np.array(rng.choice(_BACKGROUNDS), np.float32)
    side = SIZE * _SCALE
    ramp = np.linspace(-12, 12, side, dtype=np.float32)
    across, down = rng.uniform(-1, 1), rng.uniform(-1, 1)
    field = base + (ramp[None, :] * across + ramp[:, None] * down)[..., None]
    return Image.fromarray(field.clip(0, 255).astype(np.uint8))


def _with_grain(image: Image.Image, rng: random.Random) -> Image.Image:
    """Add gray Gaussian noise of a random strength, possibly none."""
    strength = rng.choice((0.0, 3.0, 6.0))
    noise = np.random.default_rng(rng.getrandbits(32))
    if not strength:
        return image
    grain = noise.standard_normal((SIZE, SIZE, 1), np.float32) * strength
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def _draw_shape(draw: ImageDraw.ImageDraw, obj: SceneObject, color: Rgb, rng: random.Random) -> Box:
    x, y = centre(obj)
    radius = obj.size * SIZE / GRID
    turn = rng.uniform(-0.25, 0.25)
    shade = rng.uniform(0.9, 1.08)
    fill = tuple(min(255, round(v * shade)) for v in color)
    if obj.shape == "circle":
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse([v * _SCALE for v in box], fill=fill)
        return box
    points = _outline(obj.shape, x, y, radius, turn)
    draw.polygon([(px * _SCALE, py * _SCALE) for px, py in points], fill=fill)
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _outline(shape: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """Corners (x, y) in pixels of a polygon around a center, rotated by `turn` radians."""
    corners, first, radii = {
        "square": (4, math.pi / 4, (1.15,)),
        "triangle": (3, -math.pi / 2, (1.15,)),
        "star": (10, -math.pi / 2, (1.15, 0.48)),
    }[shape]
    return [
        (
            x + radius * radii[i % len(radii)] * math.cos(first + turn + 2 * math.pi * i / corners),
            y + radius * radii[i % len(radii)] * math.sin(first + turn + 2 * math.pi * i / corners),
        )
        for i in range(corners)
    ]


@lru_cache(maxsize=64)
def font(face: str, pixels: int) -> ImageFont.FreeTypeFont:
    """Load one of the `FACES` at a size in pixels."""
    return ImageFont.truetype(str(_FONTS / face), pixels)


def _draw_sign(draw: ImageDraw.ImageDraw, obj: SceneObject, rng: random.Random) -> Box:
    x, y = centre(obj)
    face = font(rng.choice(FACES), rng.choice((13, 14)) * _SCALE)
    ink = rng.choice(((15, 15, 20), (25, 30, 90), (90, 20, 20)))
    left, top, right, bottom = face.getbbox(obj.word)
    half_w = (right - left) / _SCALE / 2 + 3.5
    half_h = (bottom - top) / _SCALE / 2 + 4.0
    x = min(max(x, half_w + 1), SIZE - half_w - 1)
    box = (x - half_w, y - half_h, x + half_w, y + half_h)
    draw.rectangle([v * _SCALE for v in box], fill=(252, 252, 252), outline=(60, 60, 60), width=_SCALE)
    text_at = (x * _SCALE - (left + right) / 2, y * _SCALE - (top + bottom) / 2)
    draw.text(text_at, obj.word, fill=ink, font=face)
    return box
