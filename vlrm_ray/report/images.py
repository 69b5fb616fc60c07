"""Images on the page: scaled down, embedded as data URIs, with the experts' evidence drawn over them."""

import base64
import io
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from vlrm_ray.errors import BadImage, StorageError
from vlrm_ray.ids import sha256_of
from vlrm_ray.report.box_confidence import Confidence, unknown
from vlrm_ray.report.text import display_text
from vlrm_ray.store.decoding import decode
from vlrm_ray.store.images import UNREADABLE, read_bytes
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row
from vlrm_ray.types import Detection, Word

Box = tuple[float, float, float, float]
LABEL_HEIGHT, LABEL_ASPECT = 0.05, 0.6
"""Height of a tag's characters as a fraction of the image width, and their width as a fraction of that height."""
CROWD, SMALL = 8, 0.7
"""More boxes than this number have smaller tags, by this factor."""
MAX_TAG = 24
"""Longest tag in characters; a box with a longer label, or without room for it, has only its number on the image."""
MAX_SIDE = 448
"""Longest side of an image in the report, in pixels."""


@dataclass(frozen=True)
class EvidenceBox:
    """A detected object or a read word, drawn over the image; coordinates in pixels of the original image.

    Attributes:
        number: number of the box on the image, from 1.
        kind: `object` or `word`.
        label: class and color of the object, or the word in quotes.
        sureness: how sure it is, in words: the calibrated probability that it is right, and the expert's score.
        x, y, width, height: the box.
        tag: what is written on the image: number and label, or only the number.
        tag_x, tag_y: position of the tag's baseline.
    """

    number: int
    kind: str
    label: str
    sureness: str
    x: float
    y: float
    width: float
    height: float
    tag: str
    tag_x: float
    tag_y: float


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
        """Size of the tags' characters in pixels of the original image."""
        return _tag_size(len(self.boxes), self.width)

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
        ledger: the run; an image that is no longer at its URI is looked up among the run's own images. None without a run.
        budget: characters of data URIs that may still be embedded.
        max_side: longest side of an embedded image in pixels; larger images are scaled down.
        confidence: how sure a box is; see `box_confidence`.
    """

    ledger: Ledger | None
    budget: int
    max_side: int = MAX_SIDE
    confidence: Confidence = unknown
    _encoded: dict[str, tuple[str, int, int, str]] = field(default_factory=dict)

    def embed_row(self, row: Row, anchor: str) -> PageImage:
        """The image of a row's prompt with the row's evidence."""
        data, width, height, problem = self._data_uri(row.prompt.image, row.prompt.sha256)
        width, height = row.width or width, row.height or height
        objects = [("object", f"{o.color} {o.name}".strip(), self._sureness(o), o.box) for o in row.objects]
        words = [("word", f"“{w.text}”", self._sureness(w), w.box) for w in row.words]
        boxes = _evidence_boxes(objects + words, width, height)
        return PageImage(anchor, data, problem, width, height, boxes[: len(objects)], boxes[len(objects) :])

    def _sureness(self, box: Detection | Word) -> str:
        probability = self.confidence(box)
        return f"score {box.score:.2f}" + (
            f", right in {100 * probability:.0f} of 100" if probability is not None else ""
        )

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
        except StorageError:
            return "", 100, 100, UNREADABLE
        width, height = image.size
        data = _to_data_uri(image, self.max_side)
        if len(data) > self.budget:
            return "", width, height, "left_out_for_size"
        self.budget -= len(data)
        return data, width, height, ""

    def _read(self, uri: str, sha256: str) -> bytes:
        """Bytes of the file; if the run was moved, of the run's own image with the same name and hash."""
        try:
            return read_bytes(uri)
        except (BadImage, StorageError):
            own = None if uri.startswith("data:") else self.ledger
            moved = own.get(f"images/{posixpath.basename(uri)}") if own else None
            if moved is None or (sha256 and sha256_of(moved) != sha256):
                raise
            return moved


def _tag_size(boxes: int, width: int) -> float:
    return LABEL_HEIGHT * width * (SMALL if boxes > CROWD else 1.0)


def _evidence_boxes(
    detections: Sequence[tuple[str, str, str, Box]], width: int, height: int
) -> tuple[EvidenceBox, ...]:
    """Numbered boxes; each tag is placed above, below or inside its box, where it covers no other tag."""
    size, taken = _tag_size(len(detections), width), list[Box]()
    boxes = []
    for number, (kind, name, sureness, box) in enumerate(detections, 1):
        label = display_text(name, 60)
        tag, x, y = _placed_tag(number, label, box, (width, height), size, taken)
        taken.append(_tag_area(tag, x, y, size))
        x0, y0, x1, y1 = box
        boxes.append(
            EvidenceBox(number, kind, label, sureness, x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0), tag, x, y)
        )
    return tuple(boxes)


def _placed_tag(
    number: int, label: str, box: Box, image: tuple[int, int], size: float, taken: Sequence[Box]
) -> tuple[str, float, float]:
    """Tag of a box and where it is drawn; number and label if they find room, else the number."""
    places: list[tuple[str, float, float]] = []
    for tag in (f"{number} {label}", str(number)):
        if len(tag) > MAX_TAG and tag != str(number):
            continue
        found = list(_places(tag, box, image, size))
        free = [(x, y) for x, y in found if not any(_overlap(_tag_area(tag, x, y, size), area) for area in taken)]
        if free:
            return tag, *free[0]
        places += [(tag, x, y) for x, y in found[:1]]
    return places[-1] if places else (str(number), 0.0, size)


def _places(tag: str, box: Box, image: tuple[int, int], size: float) -> Iterator[tuple[float, float]]:
    """Baselines inside the image at which a tag touches its box: above, below, inside at the top and at the bottom."""
    (x0, y0, _, y1), (width, height) = box, image
    x = max(0.0, min(x0, width - (len(tag) + 1) * size * LABEL_ASPECT))
    yield from ((x, y) for y in (y0 - 0.3 * size, y1 + size, y0 + size, y1 - 0.3 * size) if size <= y <= height)


def _tag_area(tag: str, x: float, y: float, size: float) -> Box:
    return x, y - size, x + len(tag) * size * LABEL_ASPECT, y


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _to_data_uri(image: Image.Image, max_side: int) -> str:
    """The scaled image as PNG or JPEG, whichever is smaller."""
    small = image.copy()
    small.thumbnail((max_side, max_side))
    kind, data = min(((kind, _compress(small, kind)) for kind in ("PNG", "JPEG")), key=lambda encoded: len(encoded[1]))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"


def _compress(image: Image.Image, kind: str) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, quality=85, optimize=True)
    return sink.getvalue()
