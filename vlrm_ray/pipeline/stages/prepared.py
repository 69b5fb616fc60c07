"""The cut of the graph before the critiques: one graph commits prepared parts, another one starts from them."""

import json
from collections import Counter
from dataclasses import asdict

import pyarrow as pa

from vlrm_ray.pipeline.stages.commit import Tally, check_whole_part, first_quarantined
from vlrm_ray.store.prepared_parts import PreparedParts
from vlrm_ray.store.rows import from_table


def part_table(part: int) -> pa.Table:
    """The number of a prepared part, as the input of `ReadCandidates`."""
    return pa.table({"part": pa.array([part], pa.int64())})


class CommitCandidates:
    """Commits prepared parts."""

    def __init__(self, prepared: PreparedParts) -> None:
        """Write to the prepared parts of a round."""
        self.prepared = prepared

    def __call__(self, table: pa.Table) -> pa.Table:
        """Commit a prepared part; returns its `Tally` as `Commit` does."""
        rows = from_table(table, [])
        check_whole_part(rows)
        self.prepared.put(rows[0].part, table)
        quarantined = Counter(row.quarantined for row in rows if row.quarantined)
        tally = Tally(rows[0].part, len(rows), dict(quarantined), first_quarantined(rows))
        return pa.table({"tally": [json.dumps(asdict(tally))]})


class ReadCandidates:
    """Reads prepared parts, one in each call."""

    def __init__(self, prepared: PreparedParts) -> None:
        """Read the prepared parts of a round."""
        self.prepared = prepared

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows of the part whose number is in a table of `part_table`."""
        (part,) = table.column("part").to_pylist()
        return self.prepared.get(part)
