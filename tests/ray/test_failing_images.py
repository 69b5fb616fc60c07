"""An image that ends the process of an expert, in a real actor pool of Ray Data."""

import os
import signal
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pytest
import ray.data
from PIL import Image

from actors.experts import DetectorAdapter, DetectorExpert
from vlrm_ray.config import Detector
from vlrm_ray.config_sections import Cluster, Pool
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.begun_graph import tables
from vlrm_ray.pipeline.graph import _Step, _through, configure_ray_data
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import Candidate, Detection, ImageCondition, Prompt

FATAL, WIDTHS = 13, (10, 11, 12, 13, 14)
KILLED = "expert_failed: the process of the detector ended"


class Board:
    def add(self, stage: str, rows: int, seconds: float) -> None: ...


class Fragile:
    """A detector whose process ends at images of one width, as after a crash in native code."""

    fingerprint = "fragile"

    def detect(self, images: Sequence[Pixels]) -> list[list[Detection]]:
        if any(image.shape[1] == FATAL for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return [[] for _ in images]


class FragileDetector(DetectorExpert):
    @cached_property
    def detector(self) -> DetectorAdapter:
        return self.guard.load(Fragile)


@pytest.mark.usefixtures("ray_cluster")
def test_the_image_is_quarantined_and_the_part_goes_on(tmp_path: Path) -> None:
    rows = []
    for width in WIDTHS:
        file = tmp_path / f"{width}.png"
        Image.new("RGB", (width, 9)).save(file)
        prompt = Prompt(str(width), str(file), sha256_of(file.read_bytes()), "Why?")
        candidates = (Candidate(f"c{width}", "A dog.", ImageCondition.FULL),)
        rows.append(Row(0, 1, prompt, part_rows=len(WIDTHS), asked=1, candidates=candidates))
    configure_ray_data(Cluster())
    pool = Pool(min=1, max=1, cpus=0.5)
    step = _Step(FragileDetector, (Detector(), Ledger(str(tmp_path / "run")), Board()), pool)
    (table,) = tables(_through(ray.data.from_blocks([to_table(rows)]), [step]))
    found = from_table(table)
    assert [row.quarantined for row in found] == [KILLED if width == FATAL else "" for width in WIDTHS]
    assert [row.width for row in found] == [0 if width == FATAL else width for width in WIDTHS]
    assert [(row.asked, len(row.candidates)) for row in found] == [
        (0, 0) if width == FATAL else (1, 1) for width in WIDTHS
    ]
