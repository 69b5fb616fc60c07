"""What the photographs and cut-outs show: natural.yaml, cutouts.yaml and backgrounds.yaml as typed records."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from jobs.photographs.coco import CLASSES

SOME = 0
"""Number of objects of a class where they were not counted; there is at least one."""
OTHER = "other"
"""Class of cut-outs that are of no COCO class."""
_KEYS = frozenset({"unsure", "nouns", "colors", "words"})


@dataclass(frozen=True)
class Place:
    """Where an image lies in the archives.

    Attributes:
        source: name of the archive.
        member: name of the file in the archive, or in `resource`.
        resource: Qt resource file in the archive that holds the member; "" if none.
    """

    source: str
    member: str
    resource: str = ""


@dataclass(frozen=True)
class Natural:
    """A natural photograph and its content.

    Attributes:
        name: unique name, without suffix.
        place: where it lies.
        counts: number of objects by COCO class, or `SOME`. Classes neither here nor in `unsure` are absent.
        unsure: classes of which it is not known whether they are in the photograph.
        nouns: more exact name of all objects of a class.
        colors: color of all objects of a class.
        words: texts that can be read in the photograph.
        animals: whether there is an animal, of any kind.
    """

    name: str
    place: Place
    counts: Mapping[str, int]
    unsure: frozenset[str]
    nouns: Mapping[str, str]
    colors: Mapping[str, str]
    words: tuple[str, ...]
    animals: bool


@dataclass(frozen=True)
class Cutout:
    """A cut-out and what it shows.

    Attributes:
        name: unique name.
        class_name: COCO class, or `OTHER`.
        origin: where the image lies, or the natural photograph that it is cut out of.
        noun: exact name of the object, if it is another one than the class.
        color: its color, if there is one that leaves no doubt.
        group: cut-outs of one object have one group.
        box: for segmented ones, box around the object as shares of the photograph.
        bottom: whether the object is cut off below.
        words: text that is printed on it.
        unsure: COCO classes that it may show besides, or that people may call it.
    """

    name: str
    class_name: str
    origin: Place | str
    noun: str = ""
    color: str = ""
    group: str = ""
    box: tuple[float, ...] = ()
    bottom: bool = False
    words: str = ""
    unsure: frozenset[str] = frozenset()


@cache
def naturals() -> tuple[Natural, ...]:
    """All natural photographs."""
    found = []
    for group in _read("natural.yaml"):
        for name, fields in group["photographs"].items():
            counts = {key: SOME if value == "some" else int(value) for key, value in fields.items() if key not in _KEYS}
            unsure = _unsure(fields)
            _check_classes(name, {*counts, *unsure, *fields.get("nouns", ()), *fields.get("colors", ())})
            found.append(
                Natural(
                    f"{group.get('prefix', '')}{name}",
                    _place(group, name),
                    counts,
                    unsure,
                    fields.get("nouns", {}),
                    fields.get("colors", {}),
                    tuple(fields.get("words", ())),
                    bool(group.get("animals")),
                )
            )
    return tuple(found)


@cache
def cutouts() -> tuple[Cutout, ...]:
    """All cut-outs."""
    content = _read("cutouts.yaml")
    found = []
    for class_name, entries in content["stamps"].items():
        for path, fields in entries.items():
            place = Place("stamps", f"./usr/share/tuxpaint/stamps/{path}.png".removeprefix("./"))
            name = path.rpartition("/")[2]
            found.append(Cutout(name, class_name, place, **{"group": name, **fields, "unsure": _unsure(fields)}))
    for name, fields in content["segmented"].items():
        class_name, box = fields["class"], tuple(fields["box"])
        rest = {key: value for key, value in fields.items() if key not in ("class", "box")} | {
            "unsure": _unsure(fields)
        }
        found.append(Cutout(f"cut-{name}", class_name, name, **{"group": f"cut-{name}", "box": box, **rest}))
    _check_classes("cutouts.yaml", {c.class_name for c in found}.union(*(c.unsure for c in found)) - {OTHER})
    return tuple(found)


@cache
def backgrounds() -> Mapping[str, Place]:
    """Backgrounds by name."""
    return {
        name.rpartition("/")[2]: _place(group, name)
        for group in _read("backgrounds.yaml")
        for name in group["photographs"]
    }


def _unsure(fields: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(fields.get("unsure", ()))


def _place(group: Mapping[str, Any], name: str) -> Place:
    path = str(group["path"]).format(name=name).removeprefix("./")
    return Place(group["source"], path, str(group.get("resource", "")).removeprefix("./"))


def _read(name: str) -> Any:
    return yaml.safe_load(Path(__file__).with_name(name).read_text("utf-8"))


def _check_classes(where: str, names: set[str]) -> None:
    unknown = names - set(CLASSES)
    if unknown:
        raise ValueError(f"{where}: {sorted(unknown)[0]} is no class of COCO")
