"""Images with labelled objects, to calibrate a detector on: COCO's JSON format, or a data set in ultralytics' YOLO format.

--coco annotations.json    images, annotations (bbox x, y, width, height in pixels; iscrowd) and categories
--yolo data.yaml           path, val (or train) and names; labels/NAME.txt beside images/NAME.jpg, each line
                           "class x y width height" with the box's center and size as shares of the image
--yolo FOLDER              a folder with data.yaml, or with images/, labels/ and classes.txt
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vlrm_ray.errors import UserError
from vlrm_ray.experts.geometry import Box, intersection_over_smaller, iou
from vlrm_ray.experts.measurement import MATCH_IOU
from vlrm_ray.types import Detection, Evidence

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
_CROWD_COVER = 0.5
"""A box that shows no labelled object is not measured if it lies in a labelled crowd by at least this share of it."""


@dataclass(frozen=True)
class LabelledFile:
    """One image file with its labels.

    Attributes:
        path: the image file.
        boxes: class and box of each object; in pixels, or as shares of the image if `relative`.
        crowds: class and box of each region with many objects that are not labelled one by one.
        relative: unit of the boxes.
    """

    path: Path
    boxes: tuple[tuple[str, Box], ...]
    crowds: tuple[tuple[str, Box], ...] = ()
    relative: bool = False

    def truth(self, width: int, height: int) -> Evidence:
        """The labels as evidence, for an image of this size in pixels."""
        scale = (width, height, width, height) if self.relative else (1, 1, 1, 1)
        objects = []
        for name, box in self.boxes:
            x0, y0, x1, y1 = (v * s for v, s in zip(box, scale, strict=True))
            objects.append(Detection(name, (x0, y0, x1, y1), 1.0))
        return Evidence(width, height, tuple(objects))

    def measurable(self, detected: Evidence, truth: Evidence, classes: frozenset[str]) -> Evidence:
        """The detections that the labels can judge: of the labelled classes, and on a labelled object or outside crowds.

        As COCO's evaluation does, labelled objects are matched first; a crowd excuses only the boxes that match none.

        Args:
            detected: what was detected in the image.
            truth: the labelled objects, by the detector's names of their classes, as `crowds` must have them too.
            classes: the labelled classes.
        """

        def kept(box: Detection) -> bool:
            if any(o.name == box.name and iou(o.box, box.box) >= MATCH_IOU for o in truth.objects):
                return True
            return box.name in classes and not any(
                name == box.name and intersection_over_smaller(crowd, box.box) >= _CROWD_COVER
                for name, crowd in self.crowds
            )

        objects, faint = (tuple(filter(kept, boxes)) for boxes in (detected.objects, detected.faint))
        return replace(detected, objects=objects, faint=faint)


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels, and the names of all classes that were labelled."""

    files: Sequence[LabelledFile]
    classes: frozenset[str]


def read_coco(path: Path, images: Path) -> LabelledImages:
    """Read labels in COCO's JSON format.

    Args:
        path: the JSON file.
        images: folder that the images' `file_name` is relative to.

    Raises:
        UserError: the file is not of this format, or there are no images.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8-sig"))
        names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        files = {int(i["id"]): images / str(i["file_name"]) for i in content["images"]}
        labels: dict[int, list[tuple[bool, str, Box]]] = {i: [] for i in files}
        for a in content["annotations"]:
            x, y, width, height = (float(v) for v in a["bbox"])
            box = (x, y, x + width, y + height)
            labels[int(a["image_id"])].append((bool(a.get("iscrowd")), names[int(a["category_id"])], box))
    except OSError as error:
        raise UserError(f"--coco {path}: {error.strerror}; give COCO's annotations in JSON") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"--coco {path} is not in COCO's format ({type(error).__name__}: {error}); expected JSON with images, "
            "annotations (image_id, category_id, bbox) and categories"
        ) from None
    return _checked(f"--coco {path}", [
        LabelledFile(
            file,
            tuple((name, box) for crowd, name, box in labels[i] if not crowd),
            tuple((name, box) for crowd, name, box in labels[i] if crowd),
        )
        for i, file in files.items()
    ], frozenset(names.values()))  # fmt: skip


def read_yolo(path: Path) -> LabelledImages:
    """Read a data set in YOLO format: its data.yaml, or its folder.

    Raises:
        UserError: the data set is not of this format, or there are no images.
    """
    option = f"--yolo {path}"
    root, names = _yolo_folder(path, option)
    if not names:
        raise UserError(f"{option} names no classes; give data.yaml with `names`, or a folder with classes.txt")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    labelled = [LabelledFile(file, tuple(_yolo_boxes(file, names)), relative=True) for file in files]
    return _checked(option, labelled, frozenset(names.values()))


def _checked(option: str, files: Sequence[LabelledFile], classes: frozenset[str]) -> LabelledImages:
    """The data set; raises UserError if it has no images or no labelled object, or if a file is missing."""
    if not any(file.boxes for file in files):
        raise UserError(f"{option}: no labelled object in {len(files)} images; check the paths of images and labels")
    missing = next((file.path for file in files if not file.path.is_file()), None)
    if missing:
        raise UserError(f"{option}: there is no image {missing}; give the images' folder with --images DIR")
    return LabelledImages(files, classes)


def _yolo_folder(path: Path, option: str) -> tuple[Path, dict[int, str]]:
    """Folder of the images of a data set in YOLO format, and the names of the classes by their number."""
    file = path / "data.yaml" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        listed = path / "classes.txt"
        lines = listed.read_text("utf-8").splitlines() if listed.is_file() else []
        return path, dict(enumerate(line.strip() for line in lines if line.strip()))
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
        names = content["names"]
        named = names if isinstance(names, Mapping) else dict(enumerate(names))
        part = content.get("val") or content.get("test") or content.get("train") or ""
        if not isinstance(part, str) or part.endswith(".txt"):
            raise UserError(f"{option}: val is {part!r}, expected one folder; point val at a folder of images")
        root = file.parent / str(content.get("path") or "") / part
    except OSError as error:
        raise UserError(f"{option}: {error.strerror}; give a data.yaml or the folder of a YOLO data set") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise UserError(f"{option} is no YOLO data set; expected data.yaml with `names` and `val`") from None
    if not root.is_dir():
        raise UserError(f"{option}: there is no folder {root}; correct `path` and `val`")
    return root, {int(number): str(name) for number, name in named.items()}


def _yolo_boxes(image: Path, names: Mapping[int, str]) -> Iterator[tuple[str, Box]]:
    """Class and relative box of each object of an image; an image without a label file has none."""
    folders = ["labels" if part == "images" else part for part in image.parts[:-1]]
    labels = Path(*folders, f"{image.stem}.txt")
    if not labels.is_file():
        return
    for number, line in enumerate(labels.read_text("utf-8").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            x, y, width, height = (float(v) for v in fields[1:5])
            name = names[int(fields[0])]
        except (ValueError, KeyError):
            raise UserError(
                f"{labels} line {number} is {line!r}, expected `class x y width height` with a class of the data set"
            ) from None
        yield name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
