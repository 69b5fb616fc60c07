"""Stops a run of which too many prompts or pairs are quarantined."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import remedies, row_accounting
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

FEWEST_ROWS = 50
"""Prompts or pairs that must have been processed before the share of quarantined ones counts."""


@dataclass
class _Count:
    """All rows of a kind, the quarantined ones by reason, and the parts that have some."""

    total: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    parts: list[int] = field(default_factory=list)

    def add(self, part: int, total: int, reasons: Mapping[str, int]) -> None:
        self.total += total
        self.reasons.update(reasons)
        if reasons:
            self.parts.append(part)

    def is_above(self, share: float) -> bool:
        return self.total >= FEWEST_ROWS and self.reasons.total() > share * self.total


class QuarantineLimit:
    """Counts the quarantined prompts and pairs of a round, and ends the run above a share of all of them."""

    def __init__(self, share: float, ledger: Ledger, round_: int) -> None:
        """Count from zero.

        Args:
            share: largest share of quarantined prompts, and of quarantined pairs, 0 to 1.
            ledger: ledger of the run.
            round_: number of the round.
        """
        self.share, self.ledger, self.round = share, ledger, round_
        self.prompts, self.pairs, self.first = _Count(), _Count(), ""

    def check(self, tally: Tally) -> None:
        """Count a part.

        Raises:
            UserError: there are too many quarantined prompts or pairs. Parts that have some are removed, so that the next
                start makes them again, those with refused pairs from their prepared candidates if there are any.
        """
        self.prompts.add(tally.part, tally.prompts, tally.quarantined)
        self.pairs.add(tally.part, tally.pairs, tally.quarantined_pairs)
        self.first = self.first or tally.first_quarantined
        if self.prompts.is_above(self.share) and self.prompts.reasons.total() < self.prompts.total:
            remedy = remedies.for_prompts(_most_frequent(self.prompts))
            raise self._above("prompts", self.prompts, f" (first: {self.first})", remedy)
        if self.pairs.is_above(self.share):
            raise self._above("pairs", self.pairs, "", remedies.for_pairs(_most_frequent(self.pairs)))

    def _above(self, rows: str, count: _Count, example: str, remedy: str) -> UserError:
        """Remove the parts with quarantined rows; returns the error to raise."""
        for part in count.parts:
            self.ledger.remove_part(self.round, part)
            if count is self.prompts:
                PreparedParts(self.ledger, self.round).remove(part)
        return UserError(
            f"round {self.round}: {count.reasons.total()} of {count.total} {rows} are quarantined, more than "
            f"quarantine_limit={self.share:g}: {row_accounting.counts_text(count.reasons)}{example}; {remedy}, or raise "
            "quarantine_limit"
        )


def _most_frequent(count: _Count) -> str:
    return count.reasons.most_common(1)[0][0]
