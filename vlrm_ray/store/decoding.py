"""The one image decoder: bytes of a file in, the RGB pixels that a viewer shows out.

    stored in the file                              becomes
    EXIF orientation (JPEG, PNG, WebP, AVIF, TIFF)  an upright image; width and height are those after turning
    transparency of any kind                        the image laid on white
    gray of more than 8 bits                        8 bits, scaled from the full range of the file's bit depth
    CMYK, YCCK, CIELAB                              sRGB, by the embedded color profile if there is one
    several frames or pages                         the first one

Opaque 8-bit RGB pixels stay as they are: color profiles of RGB and gray images are not applied.
`tests/data/record_browser.py` records how a browser shows such files; a test compares.
"""

import io
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from vlrm_ray.errors import BadImage

DECODER = 2
"""Version of the decoder. Names of caches that depend on pixels contain it: raise it if any image changes."""
MAX_PIXELS = 50_000_000
"""Largest accepted width x height."""
MAX_ASPECT = 200
"""Largest accepted ratio of the longer to the shorter side."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""Accepted formats, by Pillow's names."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
"""File name suffixes of the accepted formats."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image of each EXIF orientation is turned upright."""
_ORIENTATION_TAG, _SHORT = 0x0112, 3
"""EXIF tag Orientation, and code of its type."""
_BITS_TAG, _PHOTOMETRIC_TAG, _MAXIMUM_TAG, _WHITE_IS_ZERO = 258, 262, 281, 0
"""TIFF tags BitsPerSample, PhotometricInterpretation and MaxSampleValue; value of the second for inverted gray."""
_GRAY_SCALES = {"1": 255, "L;2": 85, "L;4": 17}
"""Factor from a gray value as it is stored in a PNG file to the decoded one, by Pillow's name of the stored form."""
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis")
"""Codes at the start of HEIC files, after `ftyp`."""


def decode(data: bytes) -> Image.Image:
    """Decode an image file to RGB, as a viewer shows it.

    The dimensions in the header are checked before the pixels are decoded.

    Raises:
        BadImage: with the reason image_too_large, image_undecodable, image_heic_not_supported or
            image_jpeg_xl_not_supported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata, of which nothing is used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * max(1, min(width, height)):
                raise BadImage("image_too_large")
            turn = _TURNS.get(exif_orientation(image.info.get("exif", b"")))
            rgb = _to_rgb(image)
            rgb.info.clear()  # or a library that gets the image would turn it again
            return rgb if turn is None else rgb.transpose(turn)
    except BadImage:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage("image_too_large") from error
    except Exception as error:  # Pillow's decoders raise many exception types on malformed files
        raise BadImage(_why_undecodable(data)) from error


def exif_orientation(block: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8; 1 if the block is damaged or has none.

    Like browsers, it accepts the tag only in the main directory and as one number of the type SHORT. TIFF files have
    no such block: Pillow turns them itself.
    """
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, start)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", block, start + 2 + 12 * number)
            if (tag, kind, count) == (_ORIENTATION_TAG, _SHORT, 1):
                return int(value) if value in _TURNS else 1
    except struct.error:
        return 1
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB pixels of an opened image, laid on white where it is transparent."""
    frame = _prepare(image) if isinstance(image, ImageFile.ImageFile) else None
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_gray(image).convert("RGB")
    if image.mode in ("CMYK", "LAB"):
        return _by_profile(image)
    if not image.has_transparency_data and frame is None:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    rgb = Image.new("RGB", rgba.size, "white")
    if frame is not None:
        rgba = rgba.crop(frame)
    rgb.paste(rgba, frame, rgba.getchannel("A"))
    return rgb


def _prepare(image: ImageFile.ImageFile) -> tuple[int, int, int, int] | None:
    """Before the pixels are loaded: correct the transparent color, and find the part that the first frame covers.

    PNG gives the transparent color in the stored bit depth; Pillow compares it with the decoded 8 bits.

    Returns:
        The rectangle of a GIF's first frame that is smaller than the image; else None.
    """
    if not image.tile:
        return None
    _, extents, _, form = image.tile[0][:4]
    stored, key = form if isinstance(form, str) else (form or ("",))[0], image.info.get("transparency")
    if image.format == "PNG" and isinstance(key, int) and stored in _GRAY_SCALES:
        image.info["transparency"] = key * _GRAY_SCALES[stored]
    if image.format == "PNG" and isinstance(key, tuple) and stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return extents if image.format == "GIF" and extents != (0, 0, *image.size) else None


def _deep_gray(image: Image.Image) -> Image.Image:
    """An 8-bit gray image from one with more bits: 16-bit, 32-bit or floating-point values."""
    values, tags, key = np.asarray(image), getattr(image, "tag_v2", {}), image.info.get("transparency")
    peak = _white_value(values, tags)
    if values.dtype.kind == "u":
        table = (np.arange(65536).clip(0, peak) * (255 / peak)).round().astype(np.uint8)
        gray = table[values]
    else:
        scaled = np.nan_to_num(values.astype(np.float32))
        gray = (scaled.clip(0, peak, out=scaled) * np.float32(255 / peak)).round().astype(np.uint8)
    if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        gray = 255 - gray
    if isinstance(key, int):
        gray[values == key] = 255
    return Image.fromarray(gray)


def _white_value(values: NDArray[Any], tags: Mapping[int, Any]) -> float:
    """The value that stands for white.

    For unsigned 16-bit values it is the largest of the file's bit depth, or the one that a TIFF file names. Of wider
    values the files say nothing: it is the smallest of 1 (if they are fractions), 255, 65535 and their maximum that
    none exceeds.
    """
    if values.dtype.kind == "u":
        bits = tags.get(_BITS_TAG, (16,))[0]
        named = tags.get(_MAXIMUM_TAG, 0)
        named = named[0] if isinstance(named, tuple) else named
        return float(named if 0 < named < 2**bits else 2**bits - 1)
    highest = float(np.nanmax(values, initial=0, where=np.isfinite(values)))
    ceilings = ([1.0] if values.dtype.kind == "f" else []) + [255.0, 65535.0, highest]
    return next(ceiling for ceiling in ceilings if highest <= ceiling)


def _by_profile(image: Image.Image) -> Image.Image:
    """RGB pixels of a CMYK image, by its color profile if it has a valid one, or of a CIELAB image."""
    embedded = image.info.get("icc_profile") or b""
    if image.mode == "CMYK" and not embedded:
        return image.convert("RGB")
    try:
        lab = image.mode == "LAB"
        profile = ImageCms.createProfile("LAB") if lab else ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    assert converted is not None  # it is None only for a conversion in place
    return converted


def _why_undecodable(data: bytes) -> str:
    """Reason for a file that Pillow cannot decode; formats of photographs that are not supported are named."""
    if data[4:8] == b"ftyp" and any(code in data[8:64] for code in _HEIC):
        return "image_heic_not_supported"
    if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
        return "image_jpeg_xl_not_supported"
    return "image_undecodable"
