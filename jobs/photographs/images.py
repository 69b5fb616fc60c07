"""Takes the photographs, cut-outs and backgrounds of the catalogue out of the archives.

Photographs keep their files' bytes. Cut-outs are trimmed to their opaque pixels and stored as PNG; those of natural
photographs are segmented by GrabCut (Rother et al. 2004) with a fixed seed. Backgrounds are scaled down.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.photographs.catalogue import Cutout, Natural, Place
from jobs.photographs.members import members, resources
from vlrm_ray.errors import UserError

BACKGROUND_SIDE, SEGMENTED_SIDE = 1280, 560
"""Longest side of a stored background, and of a photograph that an object is cut out of, in pixels."""
_ITERATIONS = 6
_LARGEST_HOLE = 0.004
"""Holes in a mask up to this share of the image are filled."""
_OPAQUE = 128

Pixels = NDArray[np.uint8]


def read(archives: Mapping[str, Path], places: Iterable[Place]) -> Iterator[tuple[Place, bytes]]:
    """Content of the files at these places, each archive being read once.

    Args:
        archives: archive of each source.
        places: what to read.

    Raises:
        UserError: a file is missing.
    """
    by_source: dict[str, list[Place]] = {}
    for place in places:
        by_source.setdefault(place.source, []).append(place)
    for source, wanted in by_source.items():
        direct = {place.member: place for place in wanted if not place.resource}
        nested: dict[str, dict[str, Place]] = {}
        for place in wanted:
            if place.resource:
                nested.setdefault(place.resource, {})[place.member] = place
        missing = set(wanted)
        for name, content in members(archives[source], {*direct, *nested}.__contains__):
            inside = nested.get(name, {name: direct[name]} if name in direct else {})
            for member, data in resources(content, inside.__contains__) if name in nested else [(name, content)]:
                missing.discard(inside[member])
                yield inside[member], data
        if missing:
            raise UserError(f"{archives[source]} has no {min(p.member for p in missing)}; use the pinned archive")


def write_naturals(archives: Mapping[str, Path], photographs: Iterable[Natural], out: Path) -> None:
    """Write natural photographs as they are, under the name of the catalogue."""
    names = {photograph.place: photograph.name for photograph in photographs}
    out.mkdir(parents=True)
    for place, content in read(archives, names):
        (out / f"{names[place]}{PurePosixPath(place.member).suffix}").write_bytes(content)


def write_backgrounds(archives: Mapping[str, Path], places: Mapping[str, Place], out: Path) -> None:
    """Write backgrounds as JPEG."""
    names = {place: name for name, place in places.items()}
    out.mkdir(parents=True)
    for place, content in read(archives, names):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        image.thumbnail((BACKGROUND_SIDE, BACKGROUND_SIDE), Image.Resampling.LANCZOS)
        image.save(out / f"{names[place]}.jpg", quality=95)


def write_cutouts(archives: Mapping[str, Path], cutouts: Iterable[Cutout], natural: Path, out: Path) -> None:
    """Write cut-outs as PNG with an alpha channel, in a folder for each class.

    Args:
        archives: archive of each source.
        cutouts: the cut-outs.
        natural: folder of the natural photographs, which has a folder for each archive.
        out: folder to write to.
    """
    stamps = {c.origin: c for c in cutouts if isinstance(c.origin, Place)}
    for place, content in read(archives, stamps):
        _save(np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")), stamps[place], out)
    photographs = {path.stem: path for path in natural.glob("*/*")}
    for cutout in (c for c in cutouts if isinstance(c.origin, str)):
        image = Image.open(photographs[str(cutout.origin)]).convert("RGB")
        image.thumbnail((SEGMENTED_SIDE, SEGMENTED_SIDE), Image.Resampling.LANCZOS)
        _save(segment(np.asarray(image), cutout.box), cutout, out)


def _save(image: Pixels, cutout: Cutout, out: Path) -> None:
    path = out / cutout.class_name / f"{cutout.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(trim(image)).save(path)


def trim(image: Pixels) -> Pixels:
    """The smallest part of an RGBA image (h, w, 4) that holds all its opaque pixels."""
    rows, columns = (np.flatnonzero((image[:, :, 3] >= _OPAQUE).any(axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def segment(image: Pixels, box: tuple[float, ...]) -> Pixels:
    """Cut an object out of a photograph.

    Args:
        image: RGB (h, w, 3).
        box: left, top, right and bottom of a box around the object, as shares of the image.

    Returns:
        RGBA (h, w, 4); the alpha channel is the largest connected part of the foreground, with a soft edge.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (width, height, width, height), strict=True))
    mask = np.full((height, width), cv2.GC_BGD, np.uint8)
    mask[y0:y1, x0:x1] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    cv2.grabCut(bgr, mask, None, *models, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    _, labels, sizes, _ = cv2.connectedComponentsWithStats(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    inside = labels == 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())
    _, labels, sizes, _ = cv2.connectedComponentsWithStats((~inside).astype(np.uint8))
    small = np.flatnonzero(sizes[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE * mask.size)
    inside |= np.isin(labels, small[small > 0])
    eroded = cv2.erode(inside.astype(np.uint8) * 255, np.ones((3, 3), np.uint8), borderValue=255)
    return np.dstack([image, cv2.GaussianBlur(eroded, (0, 0), 1)])
