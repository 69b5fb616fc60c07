"""What is known about an image of the photograph set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.photographs.catalogue import SOME
from jobs.photographs.coco import CLASSES

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrueObject:
    """An object of a composite.

    Attributes:
        name: COCO class, or `OTHER`.
        box: left, top, right and bottom of its opaque pixels; an object in front may hide a little of it.
        noun: more exact name; "" if none is known.
        color: its one color; "" if it has several or none is clear.
        group: cut-outs of the same object.
        unsure: COCO classes that it may show besides, or that people may call it.
    """

    name: str
    box: Box
    noun: str
    color: str
    group: str
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrueText:
    """A text in an image.

    Attributes:
        text: the text as printed.
        box: its box; None if it is not known.
        height: height of its capital letters in pixels; 0 if it is not known.
        sign: whether it is on a sign or plate, rather than on the image itself.
    """

    text: str
    box: Box | None
    height: int
    sign: bool


@dataclass(frozen=True)
class TrueImage:
    """An image of the set and its content.

    Attributes:
        image: path relative to the set.
        split: `calibration` or `test`.
        kind: `natural` or `composite`.
        width, height: size in pixels.
        counts: number of objects by COCO class, or `SOME`. Classes neither here nor in `unsure` are absent.
        unsure: classes of which nothing is known.
        nouns: exact names of the objects of a class.
        colors: colors of the objects of a class, one for each or one for all; "" where a color is not clear.
        objects: all objects, for composites.
        texts: all texts for composites, some of them for natural photographs.
        animals: whether there is an animal of any kind.
        background: name of the background of a composite.
    """

    image: str
    split: str
    kind: str
    width: int
    height: int
    counts: Mapping[str, int]
    unsure: frozenset[str]
    nouns: Mapping[str, frozenset[str]]
    colors: Mapping[str, tuple[str, ...]]
    objects: tuple[TrueObject, ...]
    texts: tuple[TrueText, ...]
    animals: bool
    background: str = ""

    def is_absent(self, name: str) -> bool:
        """Whether there is no object of a COCO class."""
        return name not in self.counts and name not in self.unsure

    def row(self) -> dict[str, Any]:
        """The line of truth.jsonl."""
        objects: list[dict[str, Any]] = [
            {"name": o.name, "box": list(o.box), "color": o.color or None, "noun": o.noun, "cutout": o.group}
            for o in self.objects
        ]
        if self.kind == "natural":
            for name, number in self.counts.items():
                colors = set(self.colors.get(name, ()))
                color = colors.pop() if len(colors) == 1 else None
                objects += [{"name": name, "box": None, "color": color, "noun": "", "cutout": ""}] * (number or 1)
        return {
            "image": self.image,
            "split": self.split,
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "complete": not self.unsure,
            "absent_known": [name for name in CLASSES if self.is_absent(name)],
            "uncounted": [name for name, number in self.counts.items() if number == SOME],
            "objects": [o for o in objects if o["name"] in CLASSES],
            "others": [o for o in objects if o["name"] not in CLASSES],
            "texts": [
                {"text": t.text, "box": list(t.box) if t.box else None, "height": t.height, "sign": t.sign}
                for t in self.texts
            ],
            "background": self.background,
        }


def counts_of(objects: tuple[TrueObject, ...]) -> dict[str, int]:
    """Number of objects of each COCO class."""
    return dict(Counter(o.name for o in objects if o.name in CLASSES))
