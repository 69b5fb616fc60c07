"""Images of benchmark items: converts a path, bytes, base64 text or a URL to a checked image file.

A URL is fetched only if the user allows it, and never from an address inside the user's network.
"""

from collections.abc import Sequence
from pathlib import Path

from vlrm_ray.errors import BadImage
from vlrm_ray.store.decoding import decode
from vlrm_ray.store.filesystem import file_uri_path
from vlrm_ray.store.images import is_web, read_bytes, validate_image
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_files import decode_base64, is_base64, store_image_bytes
from vlrm_ray.store.web import download

IMAGE_FOLDERS = ("", "images", "image", "data", "data/images", "hallusion_bench")
"""Subfolders of a data folder in which a relative image path is looked up, in this order."""


class ImageResolver:
    """Resolves the image of an item to the URI of a file that the engine can open.

    Paths are looked up in the root folders, in order, and never outside of them. An image that is not a file yet is
    stored in the ledger under its content hash. Each image is decoded once, to reject damaged ones.
    """

    def __init__(
        self, roots: Sequence[Path], ledger: Ledger, allow_urls: bool = False, store_files: bool = False
    ) -> None:
        """Prepare the resolver.

        Args:
            roots: folders in which paths are looked up.
            ledger: where images are stored that are not files.
            allow_urls: whether URLs are fetched.
            store_files: whether files are stored in the ledger, too, for engines on nodes that do not have them.
        """
        self.roots = [root.resolve() for root in roots]
        self.ledger, self.allow_urls, self.store_files = ledger, allow_urls, store_files
        self._uris: dict[str, str] = {}

    def uri(self, image: str | bytes) -> str:
        """URI of the decodable image file; raises BadImage with the reason if there is none."""
        if isinstance(image, bytes):
            return self._store(image)
        if image not in self._uris:
            self._uris[image] = self._resolve(image)
        return self._uris[image]

    def _resolve(self, image: str) -> str:
        if image[:5].lower() == "data:":
            return self._store(read_bytes(image))
        if is_web(image):
            return self._store(self._fetch(image))
        is_file_uri = image[:6].lower() == "file:/"
        path, inside = self._find(file_uri_path(image) if is_file_uri else image)
        if path is not None:
            if self.store_files:
                return self._store(path.read_bytes())
            validate_image(str(path))
            return str(path)
        # after the lookup, because the base64 text of a JPEG begins like an absolute path: /9j/
        if is_base64(image):
            return self._store(decode_base64(image))
        raise BadImage("image_missing" if inside or is_file_uri else "image_outside_the_data")

    def _find(self, image: str) -> tuple[Path | None, bool]:
        """The file in the first root that has it, and whether the path lies inside any root."""
        try:
            resolved = [((root / image).resolve(), root) for root in self.roots]
            candidates = [path for path, root in resolved if path.is_relative_to(root)]
            return next((path for path in candidates if path.is_file()), None), bool(candidates)
        except (OSError, ValueError, RuntimeError):  # too long for a path, with a null byte, or a loop of links
            return None, True

    def _fetch(self, url: str) -> bytes:
        if not self.allow_urls:
            raise BadImage("image_url_not_allowed")
        return download(url, None)

    def _store(self, data: bytes) -> str:
        decode(data)
        return store_image_bytes(data, self.ledger)
