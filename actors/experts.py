"""Vision experts, owned and scaled by Ray Data: a block of rows in, the same with their answers out."""

import time
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlrm_ray.cache import AnswerCache
from vlrm_ray.config import Detector, Reader
from vlrm_ray.images import load
from vlrm_ray.ledger import Ledger
from vlrm_ray.rows import Row, from_table, to_table
from vlrm_ray.types import Seen, Word

Pixels = NDArray[np.uint8]


class Board(Protocol):
    """Where progress is reported to."""

    def add(self, stage: str, rows: int, seconds: float) -> None:
        """Count rows that left a stage, and the seconds it was busy with them."""
        ...


class DetectorExpert:
    """Objects with boxes, scores and colours, by ultralytics."""

    def __init__(self, settings: Detector, ledger: Ledger, board: Board) -> None:
        from actors.yolo import Yolo

        self.yolo, self.board, self.batch = Yolo(settings), board, settings.batch
        self.cache = AnswerCache(ledger, f"objects-{self.yolo.fingerprint}", Seen)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in `objects`, `width` and `height`."""
        began, rows = time.monotonic(), from_table(table)
        good = [row for row in rows if not row.quarantined]
        answers = self.cache.fill([r.prompt.sha256 for r in good], lambda asked: self._look([good[i] for i in asked]))
        for row, objects in zip(good, answers, strict=True):
            row.objects = objects
            row.width, row.height = load(row.prompt.image).size
        self.board.add("detect", len(rows), time.monotonic() - began)
        return to_table(rows)

    def _look(self, rows: list[Row]) -> list[tuple[Seen, ...]]:
        found: list[tuple[Seen, ...]] = []
        for start in range(0, len(rows), self.batch):
            found += self.yolo.detect([_pixels(row) for row in rows[start : start + self.batch]])
        return found


class TextExpert:
    """Words with boxes and scores, by PaddleOCR."""

    def __init__(self, settings: Reader, ledger: Ledger, board: Board) -> None:
        from actors.paddle import Paddle

        self.paddle, self.board = Paddle(settings), board
        self.cache = AnswerCache(ledger, f"words-{self.paddle.fingerprint}", Word)

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


def _pixels(row: Row) -> Pixels:
    return np.asarray(load(row.prompt.image))
