"""Pictures inside a page: small, re-encoded, with what the experts saw drawn over them."""

import base64
import io
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from vlrm_ray.errors import BadImage
from vlrm_ray.ids import sha256_of
from vlrm_ray.report.words import shown
from vlrm_ray.store import images
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row

Box = tuple[float, float, float, float]
LETTER, LETTER_WIDTH = 0.05, 0.6
"""Height of a label's letters in parts of the picture's width, and their width in parts of that."""
LONGEST_SIDE = 448
"""Pixels; larger pictures are made smaller for the page."""


@dataclass(frozen=True)
class Mark:
    """A box of evidence, in pixels of the picture the experts saw; `kind` is object or word."""

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
class Picture:
    """A picture with its marks; `data` is a data: URI, empty where the file could not be read, which `problem` says."""

    anchor: str
    data: str
    problem: str
    width: int
    height: int
    objects: tuple[Mark, ...] = ()
    words: tuple[Mark, ...] = ()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All boxes."""
        return self.objects + self.words

    @property
    def letter(self) -> float:
        """Size of the labels' letters."""
        return LETTER * self.width

    @property
    def text(self) -> str:
        """What stands for the picture where it is not seen."""
        seen = ", ".join(mark.label for mark in self.objects) or "no objects"
        read = ", ".join(mark.label for mark in self.words) or "none"
        return f"The experts saw: {seen}. Words they read: {read}."


@dataclass
class Album:
    """Turns image files into data URIs while the page's budget of characters lasts."""

    ledger: Ledger
    budget: int
    _known: dict[str, tuple[str, int, int, str]] = field(default_factory=dict)

    def of_row(self, row: Row, anchor: str) -> Picture:
        """The picture of a prompt, with the evidence."""
        data, width, height, problem = self._encoded(row.prompt.image, row.prompt.sha256)
        width, height = row.width or width, row.height or height
        objects = [(f"{o.color} {o.name}".strip(), o.score, o.box) for o in row.objects]
        words = [(f"“{w.text}”", w.score, w.box) for w in row.words]
        seen = [("object", *o) for o in objects] + [("word", *w) for w in words]
        marks = _marks(seen, width, height)
        return Picture(anchor, data, problem, width, height, marks[: len(objects)], marks[len(objects) :])

    def of_file(self, uri: str, anchor: str) -> Picture:
        """A picture without evidence."""
        data, width, height, problem = self._encoded(uri, "")
        return Picture(anchor, data, problem, width, height)

    def _encoded(self, uri: str, sha256: str) -> tuple[str, int, int, str]:
        if uri not in self._known:
            self._known[uri] = self._encode(uri, sha256)
        return self._known[uri]

    def _encode(self, uri: str, sha256: str) -> tuple[str, int, int, str]:
        try:
            image = images.decode(self._read(uri, sha256))
        except BadImage as error:
            return "", 100, 100, str(error)
        width, height = image.size
        data = _data_uri(image)
        if len(data) > self.budget:
            return "", width, height, "left_out_for_size"
        self.budget -= len(data)
        return data, width, height, ""

    def _read(self, uri: str, sha256: str) -> bytes:
        """The file's bytes; for a run that was moved, those of its own picture of the same name and hash."""
        try:
            return images.read_bytes(uri)
        except BadImage:
            moved = self.ledger.get(f"images/{posixpath.basename(uri)}")
            if moved is None or (sha256 and sha256_of(moved) != sha256):
                raise
            return moved


def _marks(seen: Sequence[tuple[str, str, float, Box]], width: int, height: int) -> tuple[Mark, ...]:
    """Numbered boxes, each label where it covers no other one: above its box, below it, or inside."""
    taken: list[Box] = []
    marks = []
    for number, (kind, label, score, (x0, y0, x1, y1)) in enumerate(seen, 1):
        text, letter = shown(label, 60), LETTER * width
        x = max(0.0, min(x0, width - (len(text) + 2) * letter * LETTER_WIDTH))
        lines = [y for y in (y0 - 0.3 * letter, y1 + letter, y0 + letter, y1 - 0.3 * letter) if letter <= y <= height]
        free = [y for y in lines if not any(_overlap(_room(text, x, y, letter), other) for other in taken)]
        y = (free or lines or [letter])[0]
        taken.append(_room(text, x, y, letter))
        marks.append(Mark(number, kind, text, score, x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0), x, y))
    return tuple(marks)


def _room(text: str, x: float, y: float, letter: float) -> Box:
    return x, y - letter, x + (len(text) + 2) * letter * LETTER_WIDTH, y


def _overlap(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _data_uri(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    packed = min((_packed(small, kind) for kind in ("PNG", "JPEG")), key=lambda found: len(found[1]))
    return f"data:image/{packed[0].lower()};base64,{base64.b64encode(packed[1]).decode()}"


def _packed(image: Image.Image, kind: str) -> tuple[str, bytes]:
    sink = io.BytesIO()
    image.save(sink, kind, quality=85, optimize=True)
    return kind, sink.getvalue()
