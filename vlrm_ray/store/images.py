"""Images: fetched by URI beside whoever needs the pixels, checked before they are decoded."""

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
MAX_BYTES = 100 << 20
MAX_ASPECT = 200
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def read_bytes(uri: str) -> bytes:
    """Bytes of a local path or a pyarrow.fs URI (s3://, gs://); raises BadImage."""
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
    """Decode to RGB, with its size checked on the header first; raises BadImage."""
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
    except Exception as error:  # Pillow's decoders raise many types on hostile bytes
        raise BadImage("image_undecodable") from error


@lru_cache(maxsize=512)
def load(uri: str) -> Image.Image:
    """Read and decode; the last few stay in memory for the next stage of the same worker."""
    return decode(read_bytes(uri))


def check(uri: str) -> str:
    """sha256 of the file's bytes, after proving that it decodes; raises BadImage."""
    data = read_bytes(uri)
    decode(data)
    return sha256_of(data)


def view(uri: str, condition: ImageCondition) -> Image.Image | None:
    """The picture as a candidate's making asks for: whole, degraded, or none at all."""
    if condition is ImageCondition.IMAGE_FREE:
        return None
    image = load(uri)
    return (
        degrade(image, seed_of("degrade", sha256_of(image.tobytes())))
        if condition is ImageCondition.IMAGE_DEGRADED
        else image
    )


def degrade(image: Image.Image, seed: int) -> Image.Image:
    """Blur heavily and grey out a random half: enough is left to guess wrongly from."""
    rng = random.Random(seed)
    width, height = image.size
    poor = image.filter(ImageFilter.GaussianBlur(max(width, height) / 24))
    half = (width // 2, height) if rng.random() < 0.5 else (width, height // 2)
    corner = (0, 0) if rng.random() < 0.5 else (width - half[0], height - half[1])
    poor.paste((128, 128, 128), (*corner, corner[0] + half[0], corner[1] + half[1]))
    return poor
