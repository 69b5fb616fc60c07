"""Prints a text into an image: on a plate, on a sign on a post, or on the image itself."""

import cmath
import math
import random
from functools import lru_cache
from pathlib import Path

import matplotlib
import yaml
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from jobs.photographs.truth import Box, TrueText

FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono-Bold",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol",
)  # fmt: skip
"""Fonts that matplotlib brings along."""
HEIGHTS = (6, 44)
"""Range of the height of capital letters, in pixels."""
_PLATES = (  # plate, ink
    ((250, 250, 248), (20, 20, 24)), ((244, 208, 40), (20, 20, 20)), ((20, 80, 160), (250, 250, 250)),
    ((178, 28, 36), (250, 250, 250)), ((24, 110, 60), (250, 250, 250)), ((36, 36, 40), (240, 240, 236)),
    ((214, 196, 160), (60, 36, 20)), ((235, 235, 230), (150, 24, 30)),
)  # fmt: skip
_MOST_WIDTH = 0.7
_FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
_DETAIL = 3
"""Plates are drawn this much larger and scaled down."""


def all_words() -> tuple[str, ...]:
    """The texts of words.yaml."""
    return tuple(yaml.safe_load(Path(__file__).with_name("words.yaml").read_text("utf-8")))


def random_plate(text: str, width: int, rng: random.Random) -> tuple[Image.Image, TrueText]:
    """Draw a text that fits into an image of this width.

    Returns:
        An RGBA image, and the text with its box in that image.
    """
    text = rng.choice((text, text.upper(), text.lower(), text.upper()))
    face, height = rng.choice(FACES), round(HEIGHTS[0] * (HEIGHTS[1] / HEIGHTS[0]) ** rng.random())
    left, top, right, bottom = _font(face, height).getbbox(text)
    height = max(HEIGHTS[0], int(height * min(1.0, _MOST_WIDTH * width * _DETAIL / (right - left))))
    font = _font(face, height)
    left, top, right, bottom = font.getbbox(text)
    on_sign = rng.random() < 0.75
    margin = round(height * _DETAIL * (rng.uniform(0.35, 0.9) if on_sign else 0.2))
    post = round((bottom - top) * rng.uniform(1, 3)) if on_sign and rng.random() < 0.3 else 0
    plate, ink = rng.choice(_PLATES)
    size = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    image = Image.new("RGBA", (size[0], size[1] + post), (*plate, 0))
    draw = ImageDraw.Draw(image)
    at = (margin - left, margin - top)
    if on_sign:
        if post:
            draw.rectangle((size[0] * 0.47, size[1] - 1, size[0] * 0.53, size[1] + post), fill=(120, 122, 124, 255))
        edge = rng.choice((0, 0, _DETAIL * 2))
        draw.rounded_rectangle(
            (0, 0, size[0] - 1, size[1] - 1), rng.choice((0, margin // 2)), (*plate, 255), (*ink, 255), edge
        )
        draw.text(at, text, (*ink, 255), font)
    else:
        light, dark = (250, 250, 245, 255), (15, 15, 20, 255)
        draw.text(at, text, light, font, stroke_width=_DETAIL + 1, stroke_fill=dark)
    corners = [
        (margin, margin),
        (size[0] - margin, margin),
        (margin, size[1] - margin),
        (size[0] - margin, size[1] - margin),
    ]
    return _turned(
        image, corners, rng.choice((0.0, 0.0, rng.uniform(-5, 5))), TrueText(text, None, height, on_sign), rng
    )


def moved(text: TrueText, x: int, y: int) -> TrueText:
    """The text with its box moved by (x, y)."""
    assert text.box is not None
    x0, y0, x1, y1 = text.box
    return TrueText(text.text, (x0 + x, y0 + y, x1 + x, y1 + y), text.height, text.sign)


def _turned(
    image: Image.Image, corners: list[tuple[int, int]], degrees: float, text: TrueText, rng: random.Random
) -> tuple[Image.Image, TrueText]:
    """The image turned and scaled down, and the text with the box around its turned corners."""
    middle = (image.width / 2, image.height / 2)
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    rotation = complex(1, 0) if not degrees else _unit(degrees)
    points = [complex(x - middle[0], y - middle[1]) * rotation for x, y in corners]
    xs = [(p.real + turned.width / 2) / _DETAIL for p in points]
    ys = [(p.imag + turned.height / 2) / _DETAIL for p in points]
    box: Box = tuple(round(v, 1) for v in (min(xs), min(ys), max(xs), max(ys)))  # type: ignore[assignment]
    small = turned.resize((max(1, turned.width // _DETAIL), max(1, turned.height // _DETAIL)), Image.Resampling.LANCZOS)
    return _weathered(small, rng), TrueText(text.text, box, text.height, text.sign)


def _weathered(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image as a camera might see it: darker, with less contrast, a little blurred."""
    color, alpha = image.convert("RGB"), image.getchannel("A")
    color = ImageEnhance.Contrast(color).enhance(rng.uniform(0.45, 1))
    color = ImageEnhance.Brightness(color).enhance(rng.uniform(0.6, 1.05))
    color = color.filter(ImageFilter.GaussianBlur(rng.choice((0, 0, rng.uniform(0, 1)))))
    color.putalpha(alpha)
    return color


def _unit(degrees: float) -> complex:
    """Rotation of image coordinates (y points down), as a factor of x + iy; Pillow turns counterclockwise."""
    return cmath.exp(-1j * math.radians(degrees))


@lru_cache(maxsize=512)
def _font(face: str, height: int) -> ImageFont.FreeTypeFont:
    """The font whose capital letters have this height in pixels, enlarged by `_DETAIL`."""
    path = str(_FONTS / f"{face}.ttf")
    probe = ImageFont.truetype(path, 200)
    top, bottom = probe.getbbox("H")[1::2]
    return ImageFont.truetype(path, max(6, round(200 * height * _DETAIL / (bottom - top))))
