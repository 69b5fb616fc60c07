"""Images of benchmark items: converts a path, bytes, base64 text or a URL to a checked image file.

A URL is fetched only if the user allows it.
"""

import base64
import binascii
import posixpath
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from vlrm_ray.errors import BadImage
from vlrm_ray.ids import sha256_of
from vlrm_ray.store.images import MAX_BYTES, decode, validate_image
from vlrm_ray.store.ledger import Ledger

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_MIN_BASE64_CHARACTERS = 80
"""A shorter text is a path; no image is that small."""
_URL_TIMEOUT_SECONDS = 20


class ImageResolver:
    """Resolves the image of an item to the URI of a file that the engine can open.

    Paths are looked up in the root folders, in order, and never outside of them. An image that is not a file yet is
    stored in the ledger under its content hash. Each image is decoded once, to reject damaged ones.
    """

    def __init__(self, roots: Sequence[Path], ledger: Ledger, allow_urls: bool = False) -> None:
        """Look up paths in `roots`; store other images in `ledger`; fetch URLs if `allow_urls`."""
        self.roots = [root.resolve() for root in roots]
        self.ledger, self.allow_urls = ledger, allow_urls
        self._uris: dict[str, str] = {}

    def uri(self, image: str | bytes) -> str:
        """URI of the decodable image file; raises BadImage with the reason if there is none."""
        if isinstance(image, bytes):
            return self._store(image)
        if image not in self._uris:
            self._uris[image] = self._resolve(image)
        return self._uris[image]

    def _resolve(self, image: str) -> str:
        if image.startswith("data:"):
            return self._store(_decode_base64(image.partition(",")[2]))
        if re.match(r"https?://", image):
            return self._store(self._fetch(image))
        path, inside = self._find(image)
        if path is not None:
            validate_image(str(path))
            return str(path)
        # after the lookup, because the base64 text of a JPEG begins like an absolute path: /9j/
        if len(image) >= _MIN_BASE64_CHARACTERS and _BASE64.fullmatch(image):
            return self._store(_decode_base64(image))
        raise BadImage("image_missing" if inside else "image_outside_the_data")

    def _find(self, image: str) -> tuple[Path | None, bool]:
        """The file in the first root that has it, and whether the path lies inside any root."""
        try:
            resolved = [((root / image).resolve(), root) for root in self.roots]
            candidates = [path for path, root in resolved if path.is_relative_to(root)]
            return next((path for path in candidates if path.is_file()), None), bool(candidates)
        except (OSError, ValueError):  # too long for a path, or with a null byte
            return None, True

    def _fetch(self, url: str) -> bytes:
        if not self.allow_urls:
            raise BadImage("image_url_not_allowed")
        try:
            with urllib.request.urlopen(url, timeout=_URL_TIMEOUT_SECONDS) as response:
                data = bytes(response.read(MAX_BYTES + 1))
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise BadImage("image_url_unreachable") from error
        if len(data) > MAX_BYTES:
            raise BadImage("image_too_large")
        return data

    def _store(self, data: bytes) -> str:
        decode(data)
        name = f"images/{sha256_of(data)}"
        if self.ledger.fs.get_file_info(self.ledger.path(name)).size is None:
            self.ledger.put(name, data)
        return self.ledger.path(name) if self.ledger.local else posixpath.join(self.ledger.uri, name)


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError) as error:
        raise BadImage("image_undecodable") from error
