"""Rows of the Ray Data graph: one per prompt. The image is given by URI and hash; pixels never travel in rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import TypeAdapter

from vlrm_ray.types import Candidate, Detection, Evidence, Pair, Prompt, Quality, SelectedPair, Word


@dataclass
class Row:
    """One prompt with the results of all stages so far; each stage fills in its fields.

    Attributes:
        part: index of the part, the rows that are committed together.
        round: number of the round, from 1.
        quarantined: why the row cannot be processed; "" if it can.
        asked: number of candidates requested from the policy.
        candidates: the responses; fewer than `asked` if some were empty.
        width: image width in pixels.
        height: image height in pixels.
        objects: detections at or above the configured confidence.
        words: words that OCR read.
        faint: detections below the configured confidence.
        quality: image quality, to compare with the calibration images.
        pairs: pairs of a chosen and a rejected candidate.
        selected: pairs that passed the selection, as training uses them.
        unused: reason for each candidate that is in no pair, by candidate id.
        rejected: reason for each pair that the selection rejected, by pair id.
    """

    part: int
    round: int
    prompt: Prompt
    quarantined: str = ""
    asked: int = 0
    candidates: tuple[Candidate, ...] = ()
    width: int = 0
    height: int = 0
    objects: tuple[Detection, ...] = ()
    words: tuple[Word, ...] = ()
    faint: tuple[Detection, ...] = ()
    quality: Quality = field(default_factory=Quality)
    pairs: tuple[Pair, ...] = ()
    selected: tuple[SelectedPair, ...] = ()
    unused: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)

    @property
    def evidence(self) -> Evidence:
        """Evidence of both experts."""
        return Evidence(self.width, self.height, self.objects, self.words, self.faint, self.quality)


_ROWS = TypeAdapter(list[Row])


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Convert rows to an Arrow table with the columns `prompt_id` (string) and `row` (JSON, large string)."""
    ids = [row.prompt.prompt_id for row in rows]
    content = [_ROWS.dump_json([row]).decode() for row in rows]
    return pa.table({"prompt_id": pa.array(ids, pa.string()), "row": pa.array(content, pa.large_string())})


def from_table(table: pa.Table) -> list[Row]:
    """Convert a table of `to_table` back to rows."""
    return [_ROWS.validate_json(text)[0] for text in table.column("row").to_pylist()]
