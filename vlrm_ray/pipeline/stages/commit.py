"""Commit stage: writes the tables of a part to the ledger, and returns only its tally to the driver."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.engines import REFUSED
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import part_statistics, row_accounting, training_tables
from vlrm_ray.reward.training.training_data import DESCRIPTIONS, PAIRS
from vlrm_ray.store import garbage_collection
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import GIVEN, Row, from_table


@dataclass(frozen=True)
class Tally:
    """What the driver learns about a committed part.

    Attributes:
        part: index of the part.
        prompts: number of its prompts.
        quarantined: number of quarantined prompts by reason.
        first_quarantined: image, question and reason of the first of them; "" without one.
        pairs: number of its pairs.
        quarantined_pairs: number of quarantined pairs by reason: the critics refused to write or judge a critique.
        figures: what the metrics show of the part, see `part_statistics.figures`; not compared.
    """

    part: int
    prompts: int
    quarantined: dict[str, int]
    first_quarantined: str = ""
    pairs: int = 0
    quarantined_pairs: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def refused(self) -> dict[str, int]:
        """The quarantined prompts that the policy's engine refused, by reason."""
        return {reason: count for reason, count in self.quarantined.items() if reason.startswith(REFUSED)}

    @classmethod
    def of_table(cls, table: pa.Table) -> list["Tally"]:
        """The tallies in a table that `Commit` returned."""
        return [cls(**json.loads(text)) for text in table.column("tally").to_pylist()]


class Commit:
    """Commits parts."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        """Write to a ledger."""
        self.config, self.ledger = config, ledger
        self.verifier = Verifier.from_config(config.experts) if config.train.description_weight else None

    @garbage_collection.paused()
    def __call__(self, table: pa.Table) -> pa.Table:
        """Commit a part.

        Returns:
            A table of one row with the part's `Tally`, as JSON in the column `tally`.

        Raises:
            AssertionError: the table is not one whole part, or its row counts do not add up.
        """
        rows = from_table(table)
        check_whole_part(rows)
        if not any(row.sources or row.unusable for row in rows):
            table = table.drop_columns([name for name in GIVEN if name in table.column_names])
        outputs = row_accounting.stage_tables(rows)
        marker: dict[str, Any] = {
            "row_counts": {stage: asdict(row_counts) for stage, (_, row_counts) in outputs.items()},
            "statistics": part_statistics.count_rows(rows, self.config.selection.own),
            "first_quarantined": first_quarantined(rows),
            "wire_bytes": table.nbytes,
            "text_bytes": _text_bytes(rows),
        }
        tables = {stage: output for stage, (output, _) in outputs.items()} | {"rows": table}
        if self.verifier:
            tables[DESCRIPTIONS] = training_tables.descriptions(rows, self.config, self.verifier)
        marker["sizes"] = {
            name: training_tables.sizes(tables[name], rows, self.config.prompts.max_pixels)
            for name in (PAIRS, DESCRIPTIONS)
            if name in tables
        }
        self.ledger.put_part(rows[0].round, rows[0].part, tables, marker)
        counts = {stage: row_counts for stage, (_, row_counts) in outputs.items()}
        tally = Tally(
            rows[0].part,
            len(rows),
            counts["generate"].quarantined,
            marker["first_quarantined"],
            counts["select"].rows_in,
            counts["select"].quarantined,
            part_statistics.figures(rows, counts, self.config.selection.own),
        )
        return pa.table({"tally": [json.dumps(asdict(tally))]})


def check_whole_part(rows: Sequence[Row]) -> None:
    """Check that rows are one whole part, because a part that was split would overwrite itself.

    Raises:
        AssertionError: rows are missing, or belong to several parts.
    """
    parts, expected = {row.part for row in rows}, rows[0].part_rows
    if len(parts) != 1 or len(rows) != expected:
        raise AssertionError(
            f"{len(rows)} rows of the parts {sorted(parts)} arrived together, expected {expected} of one"
        )


def first_quarantined(rows: Sequence[Row]) -> str:
    """Image, question and reason of the first quarantined prompt, for messages; "" without one."""
    row = next((row for row in rows if row.quarantined), None)
    return "" if row is None else f"{row.prompt.image}, {row.prompt.question[:60]!r}: {row.quarantined}"


def _text_bytes(rows: Sequence[Row]) -> int:
    """Size of the texts that a part carries: questions, responses and critiques, each once."""
    return sum(
        len(row.prompt.question.encode("utf-8", "replace"))
        + sum(len(candidate.text.encode("utf-8", "replace")) for candidate in row.candidates)
        + sum(
            len(critique.text.encode("utf-8", "replace"))
            for pair in row.pairs
            for critique in (*pair.chosen_critiques, *pair.rejected_critiques)
        )
        for row in rows
    )
