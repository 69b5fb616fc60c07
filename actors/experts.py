"""Ray Data actors that run the vision experts: a block of rows in, the same rows with detections or words out.

Answers are cached by the image's sha256. A model is loaded at the first image that is not in the cache, so a repeated
round with a full cache loads none. A row on whose image an expert fails is quarantined (`vlrm_ray.experts.failing_images`).
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from actors.downloads import fetch_detector, fetch_reader
from vlrm_ray.config import Detector, Reader, is_checkpoint
from vlrm_ray.experts.attempts import restarted_actor
from vlrm_ray.experts.detection import DETECTIONS, Pixels, detect_objects
from vlrm_ray.experts.failing_images import Failure, FailureGuard, is_answer
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.experts.named_models import check_zero_shot
from vlrm_ray.ids import digest
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.decoding import DECODER
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import GIVEN, Row, from_table, with_columns
from vlrm_ray.types import Detection, Detections, Word

if TYPE_CHECKING:
    from actors.paddle_ocr import Paddle
    from vlrm_ray.pipeline.stage_actors import ProgressReporter


T = TypeVar("T")


class DetectorAdapter(Protocol):
    """Adapter of a detector library.

    Attributes:
        fingerprint: hash over everything that changes the detections.
    """

    fingerprint: str

    def detect(self, images: Sequence[Pixels]) -> list[list[Detection]]:
        """See `vlrm_ray.experts.detection.DetectFn`."""
        ...


def load_detector(settings: Detector) -> DetectorAdapter:
    """Load the detector: a checkpoint file with ultralytics, a folder or hub name with transformers.

    Raises:
        UserError: the model cannot be loaded.
    """
    if is_checkpoint(settings.model):
        from actors.yolo import Yolo

        return Yolo(settings)
    check_zero_shot(settings)
    from actors.zero_shot import ZeroShot

    return ZeroShot(settings)


def load_reader(settings: Reader) -> "Paddle":
    """Load the OCR reader.

    Raises:
        UserError: the models cannot be loaded.
    """
    from actors.paddle_ocr import Paddle

    return Paddle(settings)


class DetectorExpert:
    """Runs the object detector on the images of rows."""

    def __init__(self, settings: Detector, ledger: Ledger, board: "ProgressReporter") -> None:
        """Open the cache.

        Args:
            settings: settings of the detector.
            ledger: where detections are cached.
            board: receives the progress.
        """
        self.settings, self.board = settings, board
        self.guard = FailureGuard("detector", ledger, restarted_actor(), end_of_actor())
        fetch_detector(settings)
        # a checkpoint's fingerprint is known without loading the model
        fingerprint = detector_fingerprint(settings) if is_checkpoint(settings.model) else self.detector.fingerprint
        self.cache = AnswerCache(
            ledger, f"looks-{digest(fingerprint, settings.confidence, DECODER, DETECTIONS)}", Detections
        )

    @cached_property
    def detector(self) -> DetectorAdapter:
        """The detector, loaded at first use."""
        return self.guard.load(lambda: load_detector(self.settings))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add the detections and the image quality to a block of rows."""
        start, rows = time.monotonic(), from_table(table, [])
        good = [row for row in rows if not row.quarantined]
        answers = _cached(self.cache, good, self._detect)
        for row, answer in zip(good, answers, strict=True):
            if isinstance(answer, Failure):
                row.quarantined = answer.reason
                continue
            (detections,) = answer
            row.width, row.height = detections.width, detections.height
            row.objects, row.faint, row.quality = detections.objects, detections.faint, detections.quality
        self.board.add("detect", len(rows), time.monotonic() - start)
        _report_hits(self.board, "detect", self.cache)
        return with_columns(_quarantined(table, rows), rows, "width", "height", "objects", "faint", "quality")

    def _detect(self, rows: list[Row]) -> list[tuple[Detections, ...]]:
        """One `Detections` for each row, as a tuple of one element."""
        detect, confidence = self.detector.detect, self.settings.confidence
        return self.guard.answers(
            [row.prompt for row in rows],
            self.settings.batch,
            lambda images: [(detections,) for detections in detect_objects(images, detect, confidence)],
        )


class TextExpert:
    """Runs the OCR reader on the images of rows."""

    def __init__(self, settings: Reader, ledger: Ledger, board: "ProgressReporter") -> None:
        """Open the cache.

        Args:
            settings: settings of the reader.
            ledger: where the words are cached.
            board: receives the progress.
        """
        self.settings, self.board = settings, board
        self.guard = FailureGuard("reader", ledger, restarted_actor(), end_of_actor())
        fetch_reader(settings)
        self.cache = AnswerCache(ledger, f"words-{digest(reader_fingerprint(settings), DECODER)}", Word)

    @cached_property
    def paddle(self) -> "Paddle":
        """PaddleOCR, loaded at first use."""
        return self.guard.load(lambda: load_reader(self.settings))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add the words to a block of rows."""
        start, rows = time.monotonic(), from_table(table, [])
        good = [row for row in rows if not row.quarantined]
        answers = _cached(self.cache, good, self._read)
        for row, words in zip(good, answers, strict=True):
            if isinstance(words, Failure):
                row.quarantined = words.reason
            else:
                row.words = words
        self.board.add("read", len(rows), time.monotonic() - start)
        _report_hits(self.board, "read", self.cache)
        return with_columns(_quarantined(table, rows), rows, "words")

    def _read(self, rows: list[Row]) -> list[tuple[Word, ...]]:
        """The words in the image of each row."""
        read = self.paddle.read
        return self.guard.answers([row.prompt for row in rows], 1, lambda images: [read(image) for image in images])


def end_of_actor() -> Callable[[], None] | None:
    """What ends this process, if it is that of an actor, which Ray then starts again; None if not."""
    import ray  # commands without Ray load their detector from this module too

    if not ray.is_initialized() or not ray.get_runtime_context().get_actor_id():
        return None
    return partial(os._exit, 1)


def _cached(
    cache: AnswerCache[T], rows: list[Row], look: Callable[[list[Row]], list[tuple[T, ...]]]
) -> list[tuple[T, ...]]:
    """The expert's answer on the image of each row, from the cache where it has one. Failures are not kept."""
    hashes = [row.prompt.sha256 for row in rows]
    return cache.get_or_compute(hashes, lambda missing: look([rows[i] for i in missing]), store=is_answer)


def _quarantined(table: pa.Table, rows: Sequence[Row]) -> pa.Table:
    """The table with the rows that an expert has quarantined, which lose their candidates: each counts as one prompt."""
    if table.column("quarantined").to_pylist() == [row.quarantined for row in rows]:
        return table
    whole = from_table(table, ["asked", "candidates", *GIVEN])
    for row, old in zip(rows, whole, strict=True):
        if row.quarantined:
            old.quarantined, old.asked, old.candidates, old.sources, old.unusable = row.quarantined, 0, (), {}, {}
    return with_columns(table, whole, "quarantined", "asked", "candidates", *GIVEN)


def _report_hits(board: "ProgressReporter", stage: str, cache: AnswerCache[Any]) -> None:
    """Report the cache hits since the last report."""
    if cache.hits > cache.reported_hits:
        board.add(f"{stage} cache hits", cache.hits - cache.reported_hits, 0.0)
        cache.reported_hits = cache.hits
