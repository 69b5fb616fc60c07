"""What travels through the graph: one row per prompt, image by URI and hash, never pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import TypeAdapter

from vlrm_ray.types import Candidate, Detection, Evidence, Pair, Prompt, Quality, SelectedPair, Word


@dataclass
class Row:
    """A prompt on its way; each stage fills in its fields.

    Attributes:
        quarantined: why nothing can be done with the row, empty while all is well.
        unused: for candidates that entered no pair, the reason by candidate id.
        rejected: for pairs that selection refused, the reason by pair id.
        asked: candidates asked of the policy.
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
        """What the experts saw, together."""
        return Evidence(self.width, self.height, self.objects, self.words, self.faint, self.quality)


_ROWS = TypeAdapter(list[Row])


def to_table(rows: Sequence[Row]) -> pa.Table:
    """One block: a column with the prompts' ids and one with all rows' content."""
    ids = [row.prompt.prompt_id for row in rows]
    content = [_ROWS.dump_json([row]).decode() for row in rows]
    return pa.table({"prompt_id": pa.array(ids, pa.string()), "row": pa.array(content, pa.large_string())})


def from_table(table: pa.Table) -> list[Row]:
    """The rows of a block."""
    return [_ROWS.validate_json(text)[0] for text in table.column("row").to_pylist()]
