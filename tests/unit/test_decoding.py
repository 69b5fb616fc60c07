"""Decoding: an image file becomes the pixels that a viewer shows."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from vlrm_ray.errors import BadImage
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.decoding import MAX_PIXELS, decode, exif_orientation

IMAGES = Path(__file__).parents[1] / "data" / "images"
BROWSER: dict[str, dict[str, Any]] = json.loads((IMAGES / "browser.json").read_text())
"""How Chromium shows the images; see `tests/data/record_browser.py`."""
NOT_TURNED = {f"orientation{value}.webp" for value in (3, 5, 6, 8)}
"""Chromium does not read the orientation of WebP files; other viewers do, and so do we."""
STEP, TOLERANCE = 16, 3
"""Distance of the recorded pixels, and the largest difference: browsers round transparency in another way."""
COLORS = [(214, 39, 40), (44, 160, 44), (31, 80, 200), (245, 215, 30), (20, 20, 20), (150, 150, 150)]
GRAYS = [240, 200, 150, 100, 60, 20]
ORIENTATION, PHOTOMETRIC, MAXIMUM = 274, 262, 281


def blocks(values: list[Any], dtype: type = np.uint8) -> np.ndarray:
    """3 x 2 blocks of 16 pixels, each of one value."""
    return np.array(values, dtype).reshape(2, 3, *np.shape(values[0])).repeat(STEP, axis=0).repeat(STEP, axis=1)


def samples(image: Image.Image) -> np.ndarray:
    """The pixels in the middle of the blocks, row by row."""
    return np.asarray(image)[STEP // 2 :: STEP, STEP // 2 :: STEP].reshape(-1, 3).astype(int)


def tiff(image: Image.Image, tags: dict[int, Any] | None = None, **options: Any) -> bytes:
    directory, sink = TiffImagePlugin.ImageFileDirectory_v2(), io.BytesIO()
    for tag, value in (tags or {}).items():
        directory[tag] = value
    image.save(sink, "TIFF", tiffinfo=directory, **options)
    return sink.getvalue()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize("name", sorted(BROWSER.keys() - NOT_TURNED))
def test_an_image_is_decoded_as_a_browser_shows_it(name: str) -> None:
    image = decode((IMAGES / name).read_bytes())
    shown = np.array([tuple(bytes.fromhex(pixel)) for pixel in BROWSER[name]["pixels"]])
    assert image.mode == "RGB"
    assert list(image.size) == BROWSER[name]["size"]
    assert np.abs(samples(image) - shown).max() <= TOLERANCE


@pytest.mark.parametrize("name", sorted(NOT_TURNED))
def test_a_turned_webp_is_decoded_as_the_png(name: str) -> None:
    png = decode((IMAGES / name).with_suffix(".png").read_bytes())
    assert np.array_equal(decode((IMAGES / name).read_bytes()), png)


def test_the_images_of_the_folder_are_all_recorded() -> None:
    assert {path.name for path in IMAGES.iterdir()} - {"browser.json"} == BROWSER.keys()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_opaque_8_bit_pixels_stay_as_they_are(kind: str) -> None:
    scene = paint(UNBIASED_WORLD.sample(3)).image
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(saved(scene, kind, **options)), scene)


def test_a_jpeg_is_decoded_as_pillow_does() -> None:
    data = saved(paint(UNBIASED_WORLD.sample(3)).image, "JPEG")
    assert np.array_equal(decode(data), Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("name", ["orientation6.jpg", "orientation6.png", "orientation6.webp", "orientation6_xmp.jpg"])
def test_a_library_does_not_turn_a_decoded_image_again(name: str) -> None:
    image = decode((IMAGES / name).read_bytes())
    assert not image.info
    assert np.array_equal(ImageOps.exif_transpose(image), image)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_turned_once(value: int, compression: str | None) -> None:
    image = decode(tiff(Image.fromarray(blocks(COLORS)), {ORIENTATION: value}, compression=compression))
    upright = decode((IMAGES / f"orientation{value}.jpg").read_bytes())
    assert image.size == upright.size
    assert np.abs(samples(image) - samples(upright)).max() <= TOLERANCE


def lab(image: Image.Image) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert converted is not None
    return converted


def with_holes(values: np.ndarray) -> np.ndarray:
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -5
    return values


COLOR = Image.fromarray(blocks(COLORS))
GRAY = blocks(GRAYS)
TIFFS: dict[str, tuple[Callable[[], bytes], list[Any]]] = {
    "cmyk": (lambda: tiff(COLOR.convert("CMYK")), COLORS),
    "lab": (lambda: tiff(lab(COLOR)), COLORS),
    "jpeg": (lambda: tiff(COLOR, compression="jpeg", quality=95), COLORS),
    "pages": (lambda: saved(COLOR, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]), COLORS),
    "gray": (lambda: tiff(Image.fromarray(GRAY)), GRAYS),
    "gray 16": (lambda: tiff(Image.fromarray(GRAY.astype(np.uint16) * 257)), GRAYS),
    "gray 16 compressed": (lambda: tiff(Image.fromarray(GRAY.astype(np.uint16) * 257), compression="tiff_lzw"), GRAYS),
    "gray 16, white is 0": (
        lambda: tiff(Image.fromarray(65535 - GRAY.astype(np.uint16) * 257), {PHOTOMETRIC: 0}),
        GRAYS,
    ),
    "12 bits in 16": (lambda: tiff(Image.fromarray(GRAY.astype(np.uint16) * 16), {MAXIMUM: 4095}), GRAYS),
    "32 bits, small": (lambda: tiff(Image.fromarray(GRAY.astype(np.int32))), GRAYS),
    "32 bits": (lambda: tiff(Image.fromarray(GRAY.astype(np.int32) * 257)), GRAYS),
    "32 bits, large": (lambda: tiff(Image.fromarray(GRAY.astype(np.int32) * 65536)), [v * 255 / 240 for v in GRAYS]),
    "fractions": (lambda: tiff(Image.fromarray((GRAY / 255).astype(np.float32))), GRAYS),
    "fractions with holes": (lambda: tiff(Image.fromarray(with_holes((GRAY / 255).astype(np.float32)))), GRAYS),
    "floats": (lambda: tiff(Image.fromarray(GRAY.astype(np.float32))), GRAYS),
    "all zero": (lambda: tiff(Image.fromarray(np.zeros((32, 48), np.float32))), [0] * 6),
    "big-endian gray 16": (lambda: big_endian(GRAY.astype(">u2") * 257), GRAYS),
}


def big_endian(values: np.ndarray) -> bytes:
    return saved(Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes()), "TIFF")


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_of_any_kind_shows_its_blocks(name: str) -> None:
    make, expected = TIFFS[name]
    wanted = np.array([np.broadcast_to(value, 3) for value in expected])
    assert np.abs(samples(decode(make())) - wanted).max() <= 6


def test_a_damaged_color_profile_is_ignored() -> None:
    cmyk = COLOR.convert("CMYK")
    assert np.array_equal(decode(saved(cmyk, "JPEG", icc_profile=b"damaged")), decode(saved(cmyk, "JPEG")))


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"MM\0*", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", bytes(40), b"x" * 70_000],
)
def test_a_damaged_exif_block_changes_nothing(block: bytes) -> None:
    assert exif_orientation(block) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "image_heic_not_supported"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "image_heic_not_supported"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(99), "image_undecodable"),
        (b"\xff\x0a" + bytes(99), "image_jpeg_xl_not_supported"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "image_jpeg_xl_not_supported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_undecodable"),
        (saved(Image.new("1", (9500, 9500)), "PNG"), "image_too_large"),
        (saved(Image.new("1", (15000, 15000)), "PNG"), "image_too_large"),
        (saved(Image.new("1", (MAX_PIXELS // 5000, 5001)), "PNG"), "image_too_large"),
        (saved(Image.new("L", (2010, 10)), "PNG"), "image_too_large"),
        (tiff(COLOR, {ORIENTATION: 6})[:700], "image_undecodable"),
    ],
)
def test_an_image_that_is_not_decoded_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=f"^{reason}$"):
        decode(data)
