"""The photograph set of `python jobs/photos.py`, seen by the configured experts: for `calibrate --photos` and `experts --photos`.

What the experts see in an image is kept in the folder `evidence` of the cache, so that only the first measurement runs them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.local import load_vision_experts
from jobs.photographs.layout import photos
from jobs.photographs.yolo import IMAGE_SIZE
from vlrm_ray.config import Config, load
from vlrm_ray.errors import UserError
from vlrm_ray.experts.calibration import calibration_file
from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.detection import DETECTIONS
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.ids import digest, sha256_of_file
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.cache_keys import CacheKeys
from vlrm_ray.store.decoding import DECODER
from vlrm_ray.store.images import open_image
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import ClaimType, Detection, Evidence, Word

KINDS = ("natural", "composite")
"""Kinds of images. Detectors err more on composites, so each kind has a calibration of its own."""
SPLITS = ("calibration", "test")
"""Parts of the set. Everything is measured and chosen on the first one."""
MIN_SCORE = 0.02
"""Least score of the boxes of the detector in the cache: faint ones tell what is absent."""
BATCH = 16
"""Images between two writes to the cache."""


@dataclass(frozen=True)
class PhotoStatement:
    """A true or false sentence about an image.

    Attributes:
        image: path of the image, relative to the set.
        kind: `natural` or `composite`.
        type: what it is about.
        text: the sentence.
        true: whether it is true.
        hedged: whether it says that it is unsure; then it should not be decided.
        cutouts: the cut-outs in the image, the largest first, each with the nouns for what it shows.
        background: the landscape that they were pasted on; "" for a natural photograph.
    """

    image: str
    kind: str
    type: ClaimType
    text: str
    true: bool
    hedged: bool = False
    cutouts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    background: str = ""


@dataclass(frozen=True)
class PhotoSet:
    """The set in a folder, and the experts that look at it.

    Attributes:
        folder: folder of the set.
        evidence: folder of the cached evidence.
        config: the experts' settings.
    """

    folder: Path
    evidence: Path
    config: Config

    @classmethod
    def open(cls, folder: str, config_file: str | None, overrides: Sequence[str] = ()) -> "PhotoSet":
        """The set in a cache folder ("" for this node's), with the experts of a configuration or those in the cache.

        `overrides` change either.

        Raises:
            UserError: the set has not been built.
        """
        cache = photos(folder or None)
        if not (cache.dataset / "statements.jsonl").is_file():
            raise UserError(f"there is no photograph set in {cache.dataset}; build it with `make photos`")
        models = () if config_file else (
            f"experts.detector.model={cache.detector}",
            f"experts.detector.image_size={IMAGE_SIZE}",
            f"experts.detector.min_score={MIN_SCORE}",
            f"experts.reader.detection_model={cache.ocr / 'detection'}",
            f"experts.reader.recognition_model={cache.ocr / 'recognition'}",
        )  # fmt: skip
        return cls(cache.dataset, cache.root / "evidence", load(config_file, [*models, *overrides]))

    def statements(self, split: str) -> list[PhotoStatement]:
        """The statements about the images of a split."""
        truth = {row["image"]: row for row in _rows(self.folder / split / "truth.jsonl")}
        shown = {image: cutouts_of(row) for image, row in truth.items()}
        return [
            PhotoStatement(
                row["image"],
                row["kind"],
                ClaimType(row["type"]),
                row["text"],
                row["true"],
                row.get("hedged", False),
                shown[row["image"]],
                truth[row["image"]].get("background", ""),
            )
            for row in _rows(self.folder / "statements.jsonl")
            if row["split"] == split
        ]

    def calibration_file(self, kind: str) -> str:
        """File of the detector's calibration for a kind of images: for natural ones the one that runs use."""
        detector = self.config.experts.detector
        file = calibration_file(detector.model, detector.calibration)
        return file if kind == KINDS[0] else file.removesuffix(".json") + f".{kind}.json"

    def labelled(self, split: str, progress: Progress) -> dict[str, LabelledEvidence]:
        """What the experts saw in each image of a split and what is there, by the image's path."""
        rows = list(_rows(self.folder / split / "truth.jsonl"))
        seen = self.inspect([row["image"] for row in rows], progress)
        return {row["image"]: _labelled(row, seen[row["image"]]) for row in rows}

    def kinds(self, split: str) -> dict[str, str]:
        """Kind of each image of a split, by its path."""
        return {row["image"]: row["kind"] for row in _rows(self.folder / split / "truth.jsonl")}

    def inspect(self, images: Sequence[str], progress: Progress) -> dict[str, Evidence]:
        """What the experts saw in images, given by their paths relative to the set."""
        experts = self.config.experts
        name = digest(
            detector_fingerprint(experts.detector),
            experts.detector.confidence,
            reader_fingerprint(experts.reader),
            DECODER,
            DETECTIONS,
        )
        store = Ledger(str(self.evidence))
        CacheKeys(store).update()
        cache = AnswerCache(store, name, Evidence)
        loaded: list[VisionExperts] = []

        def look(batch: Sequence[str]) -> Callable[[list[int]], list[tuple[Evidence, ...]]]:
            def compute(missing: list[int]) -> list[tuple[Evidence, ...]]:
                loaded[:] = loaded or [load_vision_experts(self.config)]
                pixels = [np.asarray(open_image(str(self.folder / batch[i]))) for i in missing]
                return [(evidence,) for evidence in loaded[0].inspect(pixels)]

            return compute

        found: dict[str, Evidence] = {}
        with progress.stage("look at the photographs", len(images), "images") as meter:
            for start in range(0, len(images), BATCH):
                batch = images[start : start + BATCH]
                keys = [sha256_of_file(self.folder / image) for image in batch]
                for image, (evidence,) in zip(batch, cache.get_or_compute(keys, look(batch)), strict=True):
                    found[image] = evidence
                meter.add(len(batch))
        return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a file with a JSON object a line; raises UserError if it cannot be read."""
    try:
        yield from (json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); build the photograph set again with `make photos`") from None


def cutouts_of(row: dict[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The cut-outs in an image, the largest first, each with the nouns for what it shows; from a line of truth.jsonl."""
    pasted = [o for o in (*row["objects"], *row.get("others", ())) if o["cutout"]]
    pasted.sort(key=lambda o: -(o["box"][2] - o["box"][0]) * (o["box"][3] - o["box"][1]))
    nouns = {o["cutout"]: tuple(noun for noun in (o["name"], o["noun"]) if noun) for o in pasted}
    return tuple((cutout, nouns[cutout]) for cutout in dict.fromkeys(o["cutout"] for o in pasted))


def _labelled(row: dict[str, Any], detected: Evidence) -> LabelledEvidence:
    """An image's evidence with its truth, from a line of truth.jsonl."""
    objects = row["objects"]
    truth = Evidence(
        row["width"],
        row["height"],
        tuple(Detection(o["name"], tuple(o["box"]), 1.0) for o in objects if o["box"]),
        tuple(Word(t["text"], tuple(t["box"]), 1.0) for t in row["texts"] if t["box"]),
    )
    numbers = Counter(o["name"] for o in objects)
    colors = {name: frozenset(o["color"] or "" for o in objects if o["name"] == name) for name in numbers}
    shown = {name: {o["cutout"] or f"{row['image']} {name}" for o in objects if o["name"] == name} for name in numbers}
    return LabelledEvidence(
        detected,
        truth,
        {name: 0 if name in row["uncounted"] else number for name, number in numbers.items()},
        frozenset(row["absent_known"]),
        {name: words for name, words in colors.items() if "" not in words},
        {name: frozenset(cutouts) for name, cutouts in shown.items()},
        frozenset(o["noun"] for o in row.get("others", ()) if o["noun"]),
        row.get("background", ""),
    )
