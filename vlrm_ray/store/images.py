"""Images by URI: read where the pixels are needed, with limits on file size, dimensions and format.

All functions that read or decode raise `BadImage` with one of these reasons: image_missing, image_unreadable,
image_too_large, image_undecodable.
"""

import io
import random
import warnings
from functools import lru_cache

import pyarrow.fs
from PIL import Image, ImageFilter

from vlrm_ray.errors import BadImage
from vlrm_ray.ids import seed_of, sha256_of
from vlrm_ray.types import ImageCondition

MAX_PIXELS = 50_000_000
"""Largest accepted width x height."""
MAX_BYTES = 100 << 20
"""Largest accepted file, in bytes."""
MAX_ASPECT = 200
"""Largest accepted ratio of the longer to the shorter side."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Accepted formats, by Pillow's names."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""File name suffixes of the accepted formats."""


def read_bytes(uri: str) -> bytes:
    """Content of an image file, from a local path or a pyarrow.fs URI (s3://, gs://); raises BadImage."""
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri) if "://" in uri else (pyarrow.fs.LocalFileSystem(), uri)
        info = filesystem.get_file_info(path)
        if info.type != pyarrow.fs.FileType.File:
            raise BadImage("image_missing")
        if info.size is not None and info.size > MAX_BYTES:
            raise BadImage("image_too_large")
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except (OSError, ValueError) as error:
        raise BadImage("image_unreadable") from error


def decode(data: bytes) -> Image.Image:
    """Decode an image file to RGB; the dimensions in its header are checked before decoding. Raises BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * max(1, min(width, height)):
                raise BadImage("image_too_large")
            return image.convert("RGB")
    except BadImage:
        raise
    except Exception as error:  # Pillow's decoders raise many exception types on malformed files
        raise BadImage("image_undecodable") from error


@lru_cache(maxsize=512)
def load_image(uri: str) -> Image.Image:
    """Read and decode an image; each process caches the latest 512. Raises BadImage."""
    return decode(read_bytes(uri))


def validate_image(uri: str) -> str:
    """Check that an image can be read and decoded; returns the sha256 of its file. Raises BadImage."""
    data = read_bytes(uri)
    decode(data)
    return sha256_of(data)


def load_in_condition(uri: str, condition: ImageCondition) -> Image.Image | None:
    """The image as the model is to see it: full, degraded, or None for image-free. Raises BadImage."""
    if condition is ImageCondition.IMAGE_FREE:
        return None
    image = load_image(uri)
    return (
        degrade(image, seed_of("degrade", sha256_of(image.tobytes())))
        if condition is ImageCondition.IMAGE_DEGRADED
        else image
    )


def degrade(image: Image.Image, seed: int) -> Image.Image:
    """Blur an image strongly and cover a random half of it with gray."""
    rng = random.Random(seed)
    width, height = image.size
    degraded = image.filter(ImageFilter.GaussianBlur(max(width, height) / 24))
    half = (width // 2, height) if rng.random() < 0.5 else (width, height // 2)
    corner = (0, 0) if rng.random() < 0.5 else (width - half[0], height - half[1])
    degraded.paste((128, 128, 128), (*corner, corner[0] + half[0], corner[1] + half[1]))
    return degraded
