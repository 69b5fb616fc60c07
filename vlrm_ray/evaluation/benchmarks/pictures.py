"""Pictures of benchmark items: paths, bytes, base64 and (only if allowed) URLs, as files an engine can open."""

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
from vlrm_ray.store.images import MAX_BYTES, check, decode
from vlrm_ray.store.ledger import Ledger

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_SHORTEST_BASE64 = 80
"""No picture is smaller; shorter texts are paths."""
_URL_SECONDS = 20


class Pictures:
    """Where the pictures of a benchmark's data are.

    Paths are looked for in `roots` in turn and never outside of them. What is no file yet is stored
    in the ledger under its content hash. Each picture is decoded once to prove that it can be.
    """

    def __init__(self, roots: Sequence[Path], ledger: Ledger, urls: bool = False) -> None:
        self.roots = [root.resolve() for root in roots]
        self.ledger, self.urls = ledger, urls
        self._known: dict[str, str] = {}

    def uri(self, image: str | bytes) -> str:
        """URI of a proven picture; raises BadImage with the reason."""
        if isinstance(image, bytes):
            return self._store(image)
        if image not in self._known:
            self._known[image] = self._locate(image)
        return self._known[image]

    def _locate(self, image: str) -> str:
        if image.startswith("data:"):
            return self._store(_decoded(image.partition(",")[2]))
        if re.match(r"https?://", image):
            return self._store(self._fetch(image))
        found, inside = self._find(image)
        if found is not None:
            check(str(found))
            return str(found)
        if len(image) >= _SHORTEST_BASE64 and _BASE64.fullmatch(image):  # that of a JPEG begins like a path: /9j/
            return self._store(_decoded(image))
        raise BadImage("image_missing" if inside else "image_outside_the_data")

    def _find(self, image: str) -> tuple[Path | None, bool]:
        """The file in the first root that has it, and whether the path stays inside any."""
        try:
            resolved = [((root / image).resolve(), root) for root in self.roots]
            places = [path for path, root in resolved if path.is_relative_to(root)]
            return next((path for path in places if path.is_file()), None), bool(places)
        except (OSError, ValueError):  # too long, or with a null byte: no path on any system
            return None, True

    def _fetch(self, url: str) -> bytes:
        if not self.urls:
            raise BadImage("image_url_not_allowed")
        try:
            with urllib.request.urlopen(url, timeout=_URL_SECONDS) as answer:
                data = bytes(answer.read(MAX_BYTES + 1))
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


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError) as error:
        raise BadImage("image_undecodable") from error
