"""Where the rows of a stage went: none gets lost without a reason."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RowCounts:
    """Row counts of a stage: rows_in = kept + dropped + quarantined.

    Attributes:
        rows_in: rows that entered the stage.
        kept: rows that left it for the next stage.
        dropped: rows removed on purpose, by reason.
        quarantined: rows that could not be processed, by reason.
    """

    rows_in: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def check(self, stage: str) -> None:
        """Check that the counts add up; raises AssertionError naming the stage."""
        dropped, quarantined = sum(self.dropped.values()), sum(self.quarantined.values())
        if self.rows_in != self.kept + dropped + quarantined:
            raise AssertionError(
                f"stage {stage}: {self.rows_in} rows in, but {self.kept} kept + {dropped} dropped + "
                f"{quarantined} quarantined"
            )

    @classmethod
    def total(cls, parts: Iterable[Mapping[str, Any]]) -> "RowCounts":
        """Sum of the counts of some parts, given as in the markers of parts."""
        total = cls()
        for part in parts:
            total.add(cls(**part))
        return total

    def add(self, other: "RowCounts") -> None:
        """Add the counts of another part."""
        self.rows_in += other.rows_in
        self.kept += other.kept
        for total, added in ((self.dropped, other.dropped), (self.quarantined, other.quarantined)):
            for reason, count in added.items():
                total[reason] = total.get(reason, 0) + count

    def as_json(self) -> dict[str, object]:
        """Form used in a stage's result and in `report.json`."""
        return {"in": self.rows_in, "kept": self.kept, "dropped": self.dropped, "quarantined": self.quarantined}
