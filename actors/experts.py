"""Vision experts, owned and scaled by Ray Data: a block of rows in, the same with their answers out.

Their models are loaded for the first image that nobody has looked at yet: a round made again loads none.
"""

import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlrm_ray.config import Detector, Reader, is_checkpoint
from vlrm_ray.experts.detection import Pixels, detect_objects
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.ids import digest
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.images import load
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import Detection, Detections, Word

if TYPE_CHECKING:
    from actors.paddle_ocr import Paddle


class Board(Protocol):
    """Where progress is reported to."""

    def add(self, stage: str, rows: int, seconds: float) -> None:
        """Count rows that left a stage, and the seconds it was busy with them."""
        ...


class DetectorAdapter(Protocol):
    """An adapter of a detector library; `fingerprint` changes with whatever changes its answers."""

    fingerprint: str

    def detect(self, images: Sequence[Pixels]) -> list[list[Detection]]:
        """See `vlrm_ray.experts.detection.DetectFn`."""
        ...


def load_detector(settings: Detector) -> DetectorAdapter:
    """A checkpoint file is opened by ultralytics, a folder or hub name by transformers."""
    if is_checkpoint(settings.model):
        from actors.yolo import Yolo

        return Yolo(settings)
    from actors.zero_shot import ZeroShot

    return ZeroShot(settings)


class DetectorExpert:
    """Objects with boxes, scores and colours, and what the image is like."""

    def __init__(self, settings: Detector, ledger: Ledger, board: Board) -> None:
        self.settings, self.board = settings, board
        known = detector_fingerprint(settings) if is_checkpoint(settings.model) else self.detector.fingerprint
        self.cache = AnswerCache(ledger, f"looks-{digest(known, settings.confidence)}", Detections)

    @cached_property
    def detector(self) -> DetectorAdapter:
        """The detector, loaded when it is first needed."""
        return load_detector(self.settings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in what the detector saw."""
        began, rows = time.monotonic(), from_table(table)
        good = [row for row in rows if not row.quarantined]
        answers = self.cache.fill([r.prompt.sha256 for r in good], lambda asked: self._look([good[i] for i in asked]))
        for row, (seen,) in zip(good, answers, strict=True):
            row.width, row.height = seen.width, seen.height
            row.objects, row.faint, row.quality = seen.objects, seen.faint, seen.quality
        self.board.add("detect", len(rows), time.monotonic() - began)
        return to_table(rows)

    def _look(self, rows: list[Row]) -> list[tuple[Detections, ...]]:
        found: list[tuple[Detections, ...]] = []
        for start in range(0, len(rows), self.settings.batch):
            pixels = [_pixels(row) for row in rows[start : start + self.settings.batch]]
            found += [(seen,) for seen in detect_objects(pixels, self.detector.detect, self.settings.confidence)]
        return found


class TextExpert:
    """Words with boxes and scores, by PaddleOCR."""

    def __init__(self, settings: Reader, ledger: Ledger, board: Board) -> None:
        self.settings, self.board = settings, board
        self.cache = AnswerCache(ledger, f"words-{reader_fingerprint(settings)}", Word)

    @cached_property
    def paddle(self) -> "Paddle":
        """PaddleOCR, loaded when it is first needed."""
        from actors.paddle_ocr import Paddle

        return Paddle(self.settings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in `words`."""
        began, rows = time.monotonic(), from_table(table)
        good = [row for row in rows if not row.quarantined]
        answers = self.cache.fill(
            [r.prompt.sha256 for r in good],
            lambda asked: [self.paddle.read(_pixels(good[i])) for i in asked],
        )
        for row, words in zip(good, answers, strict=True):
            row.words = words
        self.board.add("read", len(rows), time.monotonic() - began)
        return to_table(rows)


def _pixels(row: Row) -> NDArray[np.uint8]:
    return np.asarray(load(row.prompt.image))
