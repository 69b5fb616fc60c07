"""Labelled texts for `calibrate --words`, and the printed figures of an OCR reader."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from actors.local import load_local_reader
from vlrm_ray.config import Config
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.calibration import ReaderCalibration
from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.text_matching import HEIGHTS
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.images import open_image
from vlrm_ray.types import Evidence, Word


def inspect_words(config: Config, path: Path, folder: Path | None, progress: Progress) -> list[LabelledEvidence]:
    """What the reader reads in the images of a file of labelled texts, and those texts.

    Raises:
        UserError: the file or one of its images cannot be used.
    """
    rows = read_words(path)
    reader = load_local_reader(config)
    labelled = []
    with progress.stage("read", len(rows), "images") as meter:
        for name, truth in rows:
            image = (folder or path.parent) / name
            try:
                pixels = np.asarray(open_image(str(image)))
            except BadImage as error:
                raise UserError(f"{image}: {str(error).replace('_', ' ')}; remove or repair it") from None
            height, width = pixels.shape[:2]
            if outside := [w.text for w in truth if w.box[0] >= width or w.box[1] >= height or min(w.box[2:]) <= 0]:
                raise UserError(
                    f"--words {path}: the box of '{outside[0]}' is outside of {name} ({width} x {height}); boxes are in pixels"
                )
            detected = Evidence(width, height, words=reader.read(pixels))
            labelled.append(LabelledEvidence.of(detected, Evidence(width, height, words=truth), ()))
            meter.add(1)
    return labelled


def read_words(path: Path) -> list[tuple[str, tuple[Word, ...]]]:
    """Path and texts of each image; raises UserError if the file cannot be used."""
    rows: list[tuple[str, tuple[Word, ...]]] = []
    number = 0
    try:
        for line in path.read_text("utf-8-sig").splitlines():
            number += 1
            if not line.strip():
                continue
            row = json.loads(line)
            texts = []
            for text in row["texts"]:
                x0, y0, x1, y1 = (float(v) for v in text["box"])
                if not (x0 < x1 and y0 < y1):
                    raise ValueError(f"box {text['box']} has its right or lower side first")
                texts.append(Word(str(text["text"]), (x0, y0, x1, y1), 1.0))
            rows.append((str(row["image"]), tuple(texts)))
    except OSError as error:
        raise UserError(f"--words {path}: {error.strerror}; give a file with an object a line") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--words {path} line {number}: {type(error).__name__}: {error}; expected "
            '{"image": path, "texts": [{"text": "STOP", "box": [x0, y0, x1, y1]}]}'
        ) from None
    if not any(texts for _, texts in rows):
        raise UserError(f"--words {path}: no text in {len(rows)} images; label the texts")
    return rows


def print_reader(calibration: ReaderCalibration, progress: Progress) -> dict[str, Any]:
    """Print the figures of a reader, and return them."""
    limits = [0, *HEIGHTS]
    names = {str(low): f"{low} to {high}" for low, high in pairwise(limits)} | {
        str(limits[-1]): f"{limits[-1]} or more"
    }
    claims = calibration.claims
    rows = []
    for group, name in names.items():
        recall, table = calibration.by_height.get(group), claims.texts.get(group) if claims else None
        decides = "-" if claims is None or table is None else "yes" if table.contradicts(0, claims.stated) else "no"
        rows.append([name, f"{recall.hits} of {recall.n}" if recall else "-", decides])
    progress.table(
        f"{calibration.images} images: texts by height in pixels", ["height", "read", "missing text contradicted"], rows
    )
    by_score = [
        [f"{b / 20:.2f}", f"{share.hits} of {share.n}"] for b, share in enumerate(calibration.scores.right) if share.n
    ]
    progress.table("texts read, by score", ["score from", "right"], by_score)
    return {
        "recall": {"hits": calibration.recall.hits, "n": calibration.recall.n},
        "by_height": {group: {"hits": share.hits, "n": share.n} for group, share in calibration.by_height.items()},
    }
