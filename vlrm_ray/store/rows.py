"""Rows of the Ray Data graph as typed Arrow columns: one row per prompt, one column per field of `Row`.

The image is given by URI and hash; pixels never travel. Texts travel once: a pair names its candidates by id, and a
selected pair names the critiques of its pair by index. A stage decodes the columns that it reads, and replaces those that
it writes; all others pass through it as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vlrm_ray.store.arrow_types import codec
from vlrm_ray.types import (
    Candidate,
    Detection,
    Evidence,
    GivenResponse,
    Pair,
    Prompt,
    Quality,
    ScoredCritique,
    SelectedPair,
    Word,
)


@dataclass
class Row:
    """One prompt with the results of all stages so far; each stage fills in its fields.

    Attributes:
        part: index of the part, the rows that are committed together.
        part_rows: number of rows of the part.
        round: number of the round, from 1.
        prompt: image and question.
        quarantined: why the row cannot be processed; "" if it can.
        asked: number of candidates requested from the policy or given.
        candidates: the responses; fewer than `asked` if some were empty or cannot be used.
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
        given: responses that came with the prompt; the generate stage moves them to `candidates`.
        sources: where each given candidate comes from, by candidate id.
        unusable: number of given responses that cannot be used, by reason.
    """

    part: int
    round: int
    prompt: Prompt
    quarantined: str = ""
    part_rows: int = 1
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
    given: tuple[GivenResponse, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)

    @property
    def evidence(self) -> Evidence:
        """Evidence of both experts."""
        return Evidence(self.width, self.height, self.objects, self.words, self.faint, self.quality)


@dataclass(frozen=True)
class _PairRecord:
    """A pair, with its candidates by id."""

    pair_id: str
    chosen_id: str
    rejected_id: str
    chosen_critiques: tuple[ScoredCritique, ...]
    rejected_critiques: tuple[ScoredCritique, ...]
    unaided: tuple[ScoredCritique, ...] = ()


@dataclass(frozen=True)
class _SelectedRecord:
    """A selected pair, with its critiques by their index in `Pair.options`; -1 for a side that is not learned."""

    pair_id: str
    chosen_critique: int
    rejected_critique: int


PROMPT = ("part", "part_rows", "round", "prompt", "quarantined")
"""Columns that every table of rows has."""
GIVEN = ("sources", "unusable")
"""Columns that are stored for parts with given responses only."""
EVIDENCE = ("width", "height", "objects", "words", "faint", "quality")
"""Columns that the experts write."""
_KINDS: dict[str, Any] = {
    "part": int,
    "part_rows": int,
    "round": int,
    "prompt": Prompt,
    "quarantined": str,
    "given": tuple[GivenResponse, ...],
    "asked": int,
    "candidates": tuple[Candidate, ...],
    "sources": dict[str, str],
    "unusable": dict[str, int],
    "width": int,
    "height": int,
    "objects": tuple[Detection, ...],
    "words": tuple[Word, ...],
    "faint": tuple[Detection, ...],
    "quality": Quality,
    "pairs": tuple[_PairRecord, ...],
    "selected": tuple[_SelectedRecord, ...],
    "unused": dict[str, str],
    "rejected": dict[str, str],
}
COLUMNS = tuple(_KINDS)
"""Names of all columns, in the order in which the stages write them."""
SCHEMA = pa.schema([(name, codec(kind).type) for name, kind in _KINDS.items()])
"""Arrow types of the columns."""


def to_table(rows: Sequence[Row], columns: Iterable[str] = COLUMNS) -> pa.Table:
    """Encode rows as an Arrow table with the given columns of `SCHEMA`."""
    return pa.table({name: _encode(rows, name) for name in columns})


def from_table(table: pa.Table, columns: Iterable[str] = COLUMNS) -> list[Row]:
    """Decode columns of a table to rows.

    Args:
        table: a table of `to_table`.
        columns: names of columns to decode besides `PROMPT`; columns that the table does not have, and all others, keep
            their default. Pairs need `candidates`; selected pairs need `pairs`.
    """
    wanted = dict.fromkeys((*PROMPT, *columns))
    decoded = {name: _decode(table, name) for name in wanted if name in table.column_names}
    selected = decoded.pop("selected", None)
    pairs = decoded.pop("pairs", None)
    rows = [Row(**dict(zip(decoded, values, strict=True))) for values in zip(*decoded.values(), strict=True)]
    if pairs is not None:
        for row, records in zip(rows, pairs, strict=True):
            row.pairs = _pairs(row, records)
    if selected is not None:
        for row, records in zip(rows, selected, strict=True):
            row.selected = _selected(row, records)
    return rows


def with_columns(table: pa.Table, rows: Sequence[Row], *columns: str) -> pa.Table:
    """The table with some columns set from rows; all others stay as they are."""
    for name in columns:
        values = _encode(rows, name)
        index = table.schema.get_field_index(name)
        table = table.append_column(name, values) if index < 0 else table.set_column(index, name, values)
    return table


def _encode(rows: Sequence[Row], name: str) -> pa.Array:
    values: list[Any]
    if name == "pairs":
        values = [tuple(map(_pair_record, row.pairs)) for row in rows]
    elif name == "selected":
        values = [_selected_records(row) for row in rows]
    else:
        values = [getattr(row, name) for row in rows]
    return codec(_KINDS[name]).encode(values)


def _decode(table: pa.Table, name: str) -> list[Any]:
    return codec(_KINDS[name]).decode(table.column(name).combine_chunks())


def _pair_record(pair: Pair) -> _PairRecord:
    ids = pair.chosen.candidate_id, pair.rejected.candidate_id
    return _PairRecord(pair.pair_id, *ids, pair.chosen_critiques, pair.rejected_critiques, pair.unaided)


def _pairs(row: Row, records: Sequence[_PairRecord]) -> tuple[Pair, ...]:
    by_id = {candidate.candidate_id: candidate for candidate in row.candidates}
    return tuple(
        Pair(r.pair_id, by_id[r.chosen_id], by_id[r.rejected_id], r.chosen_critiques, r.rejected_critiques, r.unaided)
        for r in records
    )


def _selected_records(row: Row) -> tuple[_SelectedRecord, ...]:
    return tuple(
        _SelectedRecord(
            s.pair.pair_id,
            *(-1 if c is None else s.pair.options(side).index(c) for side, c in enumerate((s.chosen, s.rejected))),
        )
        for s in row.selected
    )


def _selected(row: Row, records: Sequence[_SelectedRecord]) -> tuple[SelectedPair, ...]:
    pairs = {pair.pair_id: pair for pair in row.pairs}
    return tuple(
        SelectedPair(
            pairs[r.pair_id],
            *(
                None if index < 0 else pairs[r.pair_id].options(side)[index]
                for side, index in enumerate((r.chosen_critique, r.rejected_critique))
            ),
        )
        for r in records
    )
