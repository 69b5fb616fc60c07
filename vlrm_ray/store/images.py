"""Images by URI: read where the pixels are needed, and cached up to a number of bytes.

Experts see an image in full (`open_image`). The policy, the critics and the trainer see it with at most `max_pixels`
pixels (`load_image`, `load_in_condition`), which bounds its tokens. Files of an object store are read through the cache
of the node. Images of the web are opened by no function of this module: `vlrm_ray.store.web` downloads them before.

All functions that read or decode raise `BadImage` with one of these reasons: image_missing, image_unreadable,
image_url_not_fetched, image_too_large, image_undecodable, image_heic_not_supported, image_jpeg_xl_not_supported.
"""

import base64
import binascii
import errno
import io
import math
import os
import random
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs
from PIL import Image, ImageFilter

from vlrm_ray.errors import BadImage, StorageError
from vlrm_ray.ids import seed_of, sha256_of
from vlrm_ray.store.decoding import decode
from vlrm_ray.store.filesystem import EXPIRED, file_uri_path, may_pass, open_filesystem, redacted
from vlrm_ray.store.node_cache import node_cache
from vlrm_ray.store.patience import patiently
from vlrm_ray.types import ImageCondition

MAX_BYTES = 100 << 20
"""Largest accepted file, in bytes."""
CACHE_BYTES = 256 << 20
"""Limit of the cache of decoded images in each process, in bytes."""
BATCH_BYTES = 128 << 20
"""Limit of the decoded images in one batch, in bytes."""
_BYTES_PER_PIXEL = 4
"""Memory that Pillow takes for a pixel of an RGB image."""
_SCHEME = re.compile(r"data:|file:/|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WEB = ("http", "https")
_REDUCING_GAP = 3.0
"""A large image is first reduced to this multiple of its new size by averaging pixels, which is fast."""
_TURNING = threading.Lock()
"""Held while the hues of an image are turned, which takes 300 MB for 12 megapixels: one image at a time in each process."""
UNREADABLE = "image_unreadable"
"""Reason of an image that the storage does not give, though it may be there."""
_OF_PROCESS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors of a process or node that can open no further file."""
_OF_ONE_FILE = {errno.EIO, errno.ESTALE, errno.EREMOTEIO}
"""Errors of a mounted file system that cannot be reached, or of one damaged file on it."""


def is_uri(image: str) -> bool:
    """Whether an image is given by a URI; if not, it is given by a local path."""
    return _SCHEME.match(image) is not None


def is_web(image: str) -> bool:
    """Whether an image is given by a web address, http or https."""
    return image.partition("://")[0].lower() in _WEB


def read_bytes(uri: str) -> bytes:
    """Content of an image file.

    Args:
        uri: a local path with any characters; a file:// URI, percent-encoded or not; a data: URI; or a URI of an
            object store that pyarrow.fs supports (s3://, gs://).

    Raises:
        BadImage: with the reason image_missing, image_unreadable, image_url_not_fetched, image_too_large, or
            image_undecodable for a data: URI that cannot be decoded.
        StorageError: the storage is overloaded or cannot be reached, which says nothing of the image, and patience with
            it has ended. A file that fails while its folder answers is image_unreadable.
    """
    scheme = uri.partition(":")[0].lower() if is_uri(uri) else ""
    if scheme in (*_WEB, "ftp"):
        raise BadImage("image_url_not_fetched")
    try:
        if scheme == "data":
            return _read_data_uri(uri)
        if scheme in ("", "file"):
            return _read_patiently(file_uri_path(uri) if scheme else uri)
        return patiently(lambda: _read_object(scheme + uri[len(scheme) :]), uri)
    except (OSError, ValueError, pa.ArrowException, StorageError) as error:
        if scheme != "data" and (may_pass(error, uri) or _says_nothing_of(error)):
            reason = redacted(str(error))[:200]
            raise StorageError(
                f"cannot read {redacted(uri)}: {reason}; run the same command again to resume"
            ) from error
        raise BadImage(UNREADABLE) from error


def _says_nothing_of(error: BaseException) -> bool:
    """Whether an image was not read for want of files, memory or valid credentials, which another image would not be either."""
    return (isinstance(error, OSError) and error.errno in _OF_PROCESS) or EXPIRED.search(str(error)) is not None


def _read_data_uri(uri: str) -> bytes:
    """Content of a data: URI (RFC 2397), base64 or percent-encoded."""
    header, comma, payload = uri[len("data:") :].partition(",")
    if not comma:
        raise BadImage("image_undecodable")
    if len(payload) > 2 * MAX_BYTES:
        raise BadImage("image_too_large")
    if not header.lower().rstrip().endswith(";base64"):
        return unquote_to_bytes(payload)
    text = re.sub(r"\s", "", unquote(payload)).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise BadImage("image_undecodable") from error


def _read_patiently(path: str) -> bytes:
    """Content of a local file; BadImage if it still fails after the patience with a file whose folder answers."""

    def fails_alone(error: Exception) -> bool:
        return isinstance(error, OSError) and error.errno in _OF_ONE_FILE and _answers(os.path.dirname(path) or ".")

    try:
        return patiently(lambda: _read_file(path), path, fails_alone)
    except OSError as error:
        if fails_alone(error):
            raise BadImage(UNREADABLE) from error
        raise


def _answers(folder: str) -> bool:
    """Whether a folder can be listed."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError:
        return False
    return True


def _read_file(path: str) -> bytes:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage("image_missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("image_missing")
    if status.st_size > MAX_BYTES:
        raise BadImage("image_too_large")
    return Path(path).read_bytes()


def _read_object(uri: str) -> bytes:
    filesystem, path = open_filesystem(uri)
    info = filesystem.get_file_info(path)
    if info.type != pyarrow.fs.FileType.File:
        raise BadImage("image_missing")
    if info.size is not None and info.size > MAX_BYTES:
        raise BadImage("image_too_large")

    def read() -> bytes:
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())

    return node_cache().read(uri, read, info.size or 0, info.mtime_ns or 0)


def open_image(uri: str) -> Image.Image:
    """Read and decode an image in its full size, without a cache of decoded images. Raises BadImage."""
    return decode(read_bytes(uri))


def bounded(image: Image.Image, max_pixels: int) -> Image.Image:
    """The image, scaled down if it has more than `max_pixels` pixels; 0 means no limit. It keeps its aspect ratio."""
    if not max_pixels or image.width * image.height <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (image.width * image.height))
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


class ImageCache:
    """Decoded images by URI: the latest ones, up to a number of bytes. Safe for use from several threads.

    A local file that was overwritten is read again.

    Attributes:
        limit: limit of the images' memory in bytes. A larger image is not kept.
        used: memory of the images in bytes.
    """

    def __init__(self, limit: int) -> None:
        """Create an empty cache with a limit in bytes."""
        self.limit, self.used = limit, 0
        self._images: OrderedDict[tuple[str, int, int, int], Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, uri: str, max_pixels: int = 0) -> Image.Image:
        """The image, `bounded`, from the cache or from its file. Raises BadImage."""
        key = (uri, max_pixels, *_time_and_size(uri))
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = bounded(open_image(uri), max_pixels)
        with self._lock:
            if key not in self._images:
                self._images[key] = image
                self.used += memory_of(image)
            while self.used > self.limit:
                self.used -= memory_of(self._images.popitem(last=False)[1])
        return image


def _time_and_size(uri: str) -> tuple[int, int]:
    """Time of change in ns and size of a local file; zeros for any other image, and for a file that cannot be read."""
    scheme = uri.partition(":")[0].lower() if is_uri(uri) else ""
    if scheme not in ("", "file"):
        return 0, 0
    try:
        status = os.stat(file_uri_path(uri) if scheme else uri)
    except (OSError, ValueError):
        return 0, 0
    return status.st_mtime_ns, status.st_size


_CACHE = ImageCache(CACHE_BYTES)


def memory_of(image: Image.Image) -> int:
    """Memory of a decoded RGB image in bytes."""
    return _BYTES_PER_PIXEL * image.width * image.height


def load_image(uri: str, max_pixels: int = 0) -> Image.Image:
    """Read and decode an image, with at most `max_pixels` pixels; 0 means no limit.

    Each process caches the latest images, up to `CACHE_BYTES`.

    Raises:
        BadImage: the image cannot be used.
    """
    return _CACHE.load(uri, max_pixels)


def image_batches(images: Iterable[Image.Image], size: int, limit: int = 0) -> Iterator[list[Image.Image]]:
    """Group images in order, so that few large ones are open at the same time.

    Args:
        images: the images; they are taken as the batches are formed, so a generator opens no image in advance.
        size: largest number of images in a batch.
        limit: a batch that reaches this number of bytes is complete; 0 means `BATCH_BYTES`.
    """
    batch: list[Image.Image] = []
    used = 0
    for image in images:
        batch.append(image)
        used += memory_of(image)
        if len(batch) == size or used >= (limit or BATCH_BYTES):
            yield batch
            batch, used = [], 0
    if batch:
        yield batch


def validate_image(uri: str) -> str:
    """Check that an image can be read and decoded; returns the sha256 of its file. Raises BadImage."""
    data = read_bytes(uri)
    decode(data)
    return sha256_of(data)


def load_in_condition(uri: str, condition: ImageCondition, max_pixels: int = 0) -> Image.Image | None:
    """The image as the model is to see it: full, degraded, or None for image-free; see `load_image`. Raises BadImage."""
    if condition is ImageCondition.IMAGE_FREE:
        return None
    image = load_image(uri, max_pixels)
    return (
        degrade(image, seed_of("degrade", sha256_of(image.tobytes())))
        if condition is ImageCondition.IMAGE_DEGRADED
        else image
    )


def with_turned_hues(data: bytes, degrees: float) -> bytes:
    """An image file with all hues turned around the color circle by an angle: at 120 degrees red becomes green, green becomes blue.

    The new file is a JPEG if the old one is, else a PNG. Grays stay as they are, and so does the file of a gray image. Raises BadImage.
    """
    with _TURNING:
        hue, saturation, value = decode(data).convert("HSV").split()
        if saturation.getextrema() == (0, 0):
            return data
        turned = hue.point(lambda h: round(h + degrees * 256 / 360) % 256)
        image, file = Image.merge("HSV", (turned, saturation, value)).convert("RGB"), io.BytesIO()
        if data.startswith(b"\xff\xd8"):
            image.save(file, "JPEG", quality=95, subsampling=0)
        else:
            image.save(file, "PNG")
        return file.getvalue()


def degrade(image: Image.Image, seed: int) -> Image.Image:
    """Blur an image strongly and cover a random half of it with gray."""
    rng = random.Random(seed)
    width, height = image.size
    degraded = image.filter(ImageFilter.GaussianBlur(max(width, height) / 24))
    half = (width // 2, height) if rng.random() < 0.5 else (width, height // 2)
    corner = (0, 0) if rng.random() < 0.5 else (width - half[0], height - half[1])
    degraded.paste((128, 128, 128), (*corner, corner[0] + half[0], corner[1] + half[1]))
    return degraded
