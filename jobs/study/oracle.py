"""Error-free experts for the study's upper bound: they report the ground truth of the scene.

No configuration selects them. Only the study passes these classes to the graph.
"""

import time
from pathlib import Path

import pyarrow as pa

from vlrm_ray.config import Detector, Reader
from vlrm_ray.pipeline.stage_actors import ProgressReporter
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.world import ROUND_WORLD, Scene
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table, with_columns
from vlrm_ray.types import Evidence


class OracleDetector:
    """Replaces the detector actor; reports the objects of the scene."""

    def __init__(self, _settings: Detector, _store: Ledger, board: ProgressReporter) -> None:
        self.board = board

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in `objects`, `width` and `height` of each row."""
        start, rows = time.monotonic(), from_table(table, [])
        for row in rows:
            evidence = _truth(row)
            row.objects, row.width, row.height = evidence.objects, evidence.width, evidence.height
        self.board.add("detect", len(rows), time.monotonic() - start)
        return with_columns(table, rows, "width", "height", "objects", "faint", "quality")


class OracleTextReader:
    """Replaces the text reader actor; reports the words of the scene."""

    def __init__(self, _settings: Reader, _store: Ledger, board: ProgressReporter) -> None:
        self.board = board

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in `words` of each row."""
        start, rows = time.monotonic(), from_table(table, [])
        for row in rows:
            row.words = _truth(row).words
        self.board.add("read", len(rows), time.monotonic() - start)
        return with_columns(table, rows, "words")


def scene_of(image: str) -> Scene:
    """The scene of a round's image, whose file name is the scene's seed."""
    return ROUND_WORLD.sample(int(Path(image).stem))


def _truth(row: Row) -> Evidence:
    return true_evidence(scene_of(row.prompt.image))
