"""The photograph set: images with known content, and statements about them.

    responses.jsonl                prompts with descriptions, true and false, of the images of `test`; see `responses.py`
    statements.jsonl               a true or false statement a line, see `Statement`
    SPLIT/images/c00001.jpg        composites
    SPLIT/images/n-NAME.*          natural photographs
    SPLIT/truth.jsonl              the content of an image a line, see `TrueImage.row`
    SPLIT/annotations.json         boxes of the composites' objects in COCO's format
    summary.json                   counts

SPLIT is `calibration` or `test`. No photograph, cut-out, background or printed word is in both.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from jobs.photographs.catalogue import OTHER, Natural, cutouts, naturals
from jobs.photographs.coco import CLASSES
from jobs.photographs.composites import compose, load_material, quality
from jobs.photographs.layout import Photos
from jobs.photographs.plates import all_words
from jobs.photographs.responses import write_responses
from jobs.photographs.split import SPLITS, deal, of_split, split_cutouts, split_naturals
from jobs.photographs.statements import Statement, Vocabulary, statements_about
from jobs.photographs.truth import TrueImage, TrueText

COMPOSITES = 600
"""Composites of each split."""
BY_HAND = "by hand"
"""Shape of the statements of handwritten.yaml."""


def build(cache: Photos, out: Path, composites: int = COMPOSITES) -> dict[str, Any]:
    """Write the set to a folder; returns the content of summary.json."""
    truth: list[TrueImage] = []
    for split in SPLITS:
        (out / split / "images").mkdir(parents=True)
        images = [*write_naturals(cache, split, out), *write_composites(cache, split, out, composites)]
        _write_lines(out / split / "truth.jsonl", (image.row() for image in images))
        (out / split / "annotations.json").write_text(json.dumps(annotations(images), indent=1))
        truth += images
    statements = [
        *written_by_hand(truth),
        *(s for image in truth for s in statements_about(image, vocabulary(image.split))),
    ]
    _write_lines(out / "statements.jsonl", (statement.row() for statement in statements))
    write_responses(out, "test")
    content = summary(truth, statements)
    (out / "summary.json").write_text(json.dumps(content, indent=1))
    return content


def vocabulary(split: str) -> Vocabulary:
    """What the false statements of a split may name: the classes and texts that occur in its images."""
    sides = split_cutouts(cutouts())
    classes = {c.class_name for c in cutouts() if sides[c.group] == split} - {OTHER}
    natural = split_naturals(naturals(), cutouts())
    classes |= {name for n in naturals() if natural[n.name] == split for name in n.counts}
    return Vocabulary(sorted(classes), of_split(deal(all_words()), split))


def write_composites(cache: Photos, split: str, out: Path, number: int) -> list[TrueImage]:
    """Write the composites of a split; returns their content."""
    material, written = load_material(cache, split), []
    for index in range(number):
        image, truth = compose(material, split, index)
        name = f"{split}/images/c{index:05}.jpg"
        image.save(out / name, quality=quality(split, index))
        written.append(replace(truth, image=name))
    return written


def write_naturals(cache: Photos, split: str, out: Path) -> list[TrueImage]:
    """Copy the natural photographs of a split; returns their content."""
    files = {path.stem: path for path in cache.natural.glob("*/*")}
    sides = split_naturals(naturals(), cutouts())
    written = []
    for photograph in naturals():
        if sides[photograph.name] == split:
            file = files[photograph.name]
            name = f"{split}/images/n-{file.name}"
            shutil.copyfile(file, out / name)
            written.append(natural_truth(photograph, split, name, Image.open(file).size))
    return written


def natural_truth(photograph: Natural, split: str, image: str, size: tuple[int, int]) -> TrueImage:
    """The content of a natural photograph."""
    return TrueImage(
        image,
        split,
        "natural",
        *size,
        photograph.counts,
        photograph.unsure,
        {name: frozenset({noun}) for name, noun in photograph.nouns.items()},
        {name: (color,) * max(1, photograph.counts[name]) for name, color in photograph.colors.items()},
        (),
        tuple(TrueText(text, None, 0, False) for text in photograph.words),
        photograph.animals,
    )


def annotations(images: Sequence[TrueImage]) -> dict[str, Any]:
    """The boxes of the composites in COCO's format; file names are relative to the folder of the images."""
    numbers = {name: number for number, name in enumerate(CLASSES, 1)}
    composites = [image for image in images if image.kind == "composite"]
    boxes: list[dict[str, Any]] = []
    for number, image in enumerate(composites, 1):
        for o in (o for o in image.objects if o.name in numbers):
            x0, y0, x1, y1 = o.box
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": numbers[o.name],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": number, "file_name": Path(image.image).name, "width": image.width, "height": image.height}
            for number, image in enumerate(composites, 1)
        ],
        "annotations": boxes,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
    }


def written_by_hand(truth: Sequence[TrueImage]) -> list[Statement]:
    """The statements of handwritten.yaml about natural photographs."""
    content = yaml.safe_load(Path(__file__).with_name("handwritten.yaml").read_text("utf-8"))
    images = {Path(image.image).stem.removeprefix("n-"): image for image in truth if image.kind == "natural"}
    return [
        Statement(image.image, image.split, image.kind, kind, text, true, BY_HAND)
        for name, entries in content.items()
        for image in [images[name]]
        for true, by_type in entries.items()
        for kind, texts in by_type.items()
        for text in texts
    ]


def summary(truth: Sequence[TrueImage], statements: Sequence[Statement]) -> dict[str, Any]:
    """Counts of images, cut-outs and statements by split."""
    sides = split_cutouts(cutouts())
    content: dict[str, Any] = {}
    for split in SPLITS:
        images = [image for image in truth if image.split == split]
        said = [statement for statement in statements if statement.split == split]
        groups = {(c.class_name, c.group) for c in cutouts() if sides[c.group] == split}
        content[split] = {
            "images": dict(Counter(image.kind for image in images)),
            "cutouts": dict(Counter(name for name, _ in sorted(groups))),
            "natural photographs": _occurrences(images, "natural"),
            "composites": _occurrences(images, "composite"),
            "statements": {
                f"{kind}, {type_}": {"true": sum(s.true for s in part), "false": sum(not s.true for s in part)}
                for kind in ("natural", "composite")
                for type_ in ("object", "count", "attribute", "relation", "text")
                for part in [[s for s in said if (s.kind, s.type) == (kind, type_)]]
            },
            "hedged": sum(s.hedged for s in said),
        }
    return content


def _occurrences(images: Iterable[TrueImage], kind: str) -> dict[str, int]:
    """Number of images of a kind with each class."""
    return dict(sorted(Counter(name for image in images if image.kind == kind for name in image.counts).items()))


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
