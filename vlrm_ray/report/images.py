"""Images on the page: scaled down, embedded as data URIs, with the experts' evidence drawn over them."""

import base64
import io
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from vlrm_ray.errors import BadImage
from vlrm_ray.ids import sha256_of
from vlrm_ray.report.text import display_text
from vlrm_ray.store.decoding import decode
from vlrm_ray.store.images import read_bytes
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row

Box = tuple[float, float, float, float]
LABEL_HEIGHT, LABEL_ASPECT = 0.05, 0.6
"""Height of a label's characters as a fraction of the image width, and their width as a fraction of that height."""
MAX_SIDE = 448
"""Longest side of an embedded image in pixels; larger images are scaled down."""


@dataclass(frozen=True)
class EvidenceBox:
    """A detected object or a read word, drawn over the image; coordinates in pixels of the original image.

    Attributes:
        number: number of the box on the image, from 1.
        kind: `object` or `word`.
        label: class and color of the object, or the word in quotes.
        score: confidence of the detector or reader.
        x, y, width, height: the box.
        label_x, label_y: position of the label's baseline.
    """

    number: int
    kind: str
    label: str
    score: float
    x: float
    y: float
    width: float
    height: float
    label_x: float
    label_y: float


@dataclass(frozen=True)
class PageImage:
    """An image of the page with its evidence.

    Attributes:
        anchor: HTML id of the image.
        data: the image as a data URI; empty if it is not shown.
        problem: why it is not shown; empty otherwise.
        width, height: size of the original in pixels.
        objects: boxes of detected objects.
        words: boxes of read words.
    """

    anchor: str
    data: str
    problem: str
    width: int
    height: int
    objects: tuple[EvidenceBox, ...] = ()
    words: tuple[EvidenceBox, ...] = ()

    @property
    def boxes(self) -> tuple[EvidenceBox, ...]:
        """All boxes, objects first."""
        return self.objects + self.words

    @property
    def font_size(self) -> float:
        """Size of the labels' characters in pixels of the original image."""
        return LABEL_HEIGHT * self.width

    @property
    def text(self) -> str:
        """Text alternative of the image."""
        objects = ", ".join(box.label for box in self.objects) or "none"
        words = ", ".join(box.label for box in self.words) or "none"
        return f"Detected objects: {objects}. Words read: {words}."


@dataclass
class ImageEmbedder:
    """Converts image files to data URIs, until the page's budget for images is used up.

    Attributes:
        ledger: the run; an image that is no longer at its URI is looked up among the run's own images.
        budget: characters of data URIs that may still be embedded.
    """

    ledger: Ledger
    budget: int
    _encoded: dict[str, tuple[str, int, int, str]] = field(default_factory=dict)

    def embed_row(self, row: Row, anchor: str) -> PageImage:
        """The image of a row's prompt with the row's evidence."""
        data, width, height, problem = self._data_uri(row.prompt.image, row.prompt.sha256)
        width, height = row.width or width, row.height or height
        objects = [("object", f"{o.color} {o.name}".strip(), o.score, o.box) for o in row.objects]
        words = [("word", f"“{w.text}”", w.score, w.box) for w in row.words]
        boxes = _evidence_boxes(objects + words, width, height)
        return PageImage(anchor, data, problem, width, height, boxes[: len(objects)], boxes[len(objects) :])

    def embed_file(self, uri: str, anchor: str) -> PageImage:
        """An image file without evidence."""
        data, width, height, problem = self._data_uri(uri, "")
        return PageImage(anchor, data, problem, width, height)

    def _data_uri(self, uri: str, sha256: str) -> tuple[str, int, int, str]:
        """Data URI, width and height of an image, and why it is not shown, if so."""
        if uri not in self._encoded:
            self._encoded[uri] = self._encode(uri, sha256)
        return self._encoded[uri]

    def _encode(self, uri: str, sha256: str) -> tuple[str, int, int, str]:
        try:
            image = decode(self._read(uri, sha256))
        except BadImage as error:
            return "", 100, 100, str(error)
        width, height = image.size
        data = _to_data_uri(image)
        if len(data) > self.budget:
            return "", width, height, "left_out_for_size"
        self.budget -= len(data)
        return data, width, height, ""

    def _read(self, uri: str, sha256: str) -> bytes:
        """Bytes of the file; if the run was moved, of the run's own image with the same name and hash."""
        try:
            return read_bytes(uri)
        except BadImage:
            moved = None if uri.startswith("data:") else self.ledger.get(f"images/{posixpath.basename(uri)}")
            if moved is None or (sha256 and sha256_of(moved) != sha256):
                raise
            return moved


def _evidence_boxes(
    detections: Sequence[tuple[str, str, float, Box]], width: int, height: int
) -> tuple[EvidenceBox, ...]:
    """Numbered boxes; each label is placed above, below or inside its box, where it covers no other label."""
    label_areas: list[Box] = []
    boxes = []
    for number, (kind, name, score, (x0, y0, x1, y1)) in enumerate(detections, 1):
        label, size = display_text(name, 60), LABEL_HEIGHT * width
        x = max(0.0, min(x0, width - (len(label) + 2) * size * LABEL_ASPECT))
        inside_image = [y for y in (y0 - 0.3 * size, y1 + size, y0 + size, y1 - 0.3 * size) if size <= y <= height]
        free = [y for y in inside_image if not any(_overlap(_label_area(label, x, y, size), o) for o in label_areas)]
        y = (free or inside_image or [size])[0]
        label_areas.append(_label_area(label, x, y, size))
        boxes.append(EvidenceBox(number, kind, label, score, x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0), x, y))
    return tuple(boxes)


def _label_area(label: str, x: float, y: float, size: float) -> Box:
    return x, y - size, x + (len(label) + 2) * size * LABEL_ASPECT, y


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _to_data_uri(image: Image.Image) -> str:
    """The scaled image as PNG or JPEG, whichever is smaller."""
    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    kind, data = min(((kind, _compress(small, kind)) for kind in ("PNG", "JPEG")), key=lambda encoded: len(encoded[1]))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"


def _compress(image: Image.Image, kind: str) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, quality=85, optimize=True)
    return sink.getvalue()
