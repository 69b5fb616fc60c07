"""Stops a run of which too many prompts or pairs are quarantined."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlrm_ray.errors import RoundFailed
from vlrm_ray.pipeline import remedies, row_accounting
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

FEWEST_ROWS = 50
"""Prompts or pairs that must have been processed before the share of quarantined ones counts."""


class TooManyQuarantined(RoundFailed):
    """The share of quarantined prompts or pairs is above `quarantine_limit`."""


@dataclass
class Count:
    """Rows of a kind, and the quarantined ones among them.

    Attributes:
        total: number of all rows.
        reasons: number of quarantined rows by reason.
    """

    total: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, total: int, reasons: Mapping[str, int]) -> None:
        """Count further rows."""
        self.total += total
        self.reasons.update(reasons)

    def take_back(self, total: int, reasons: Mapping[str, int]) -> None:
        """Count some rows no longer."""
        self.total -= total
        self.reasons.subtract(reasons)
        self.reasons += Counter[str]()  # drops zeros

    def is_above(self, share: float) -> bool:
        """Whether there are enough rows to tell, and the quarantined ones are more than a share of all."""
        return self.total >= FEWEST_ROWS and self.reasons.total() > share * self.total


class QuarantineLimit:
    """Counts the quarantined prompts and pairs of a round, over all sessions, and ends the run above a share of all of them.

    Attributes:
        prompts: the prompts so far.
        pairs: the pairs so far; those of prepared parts are not known yet.
        first: image, question and reason of the first quarantined prompt that is known; "" without one.
    """

    def __init__(self, share: float, ledger: Ledger, round_: int) -> None:
        """Start with the parts that are committed or prepared.

        Args:
            share: largest share of quarantined prompts, and of quarantined pairs, 0 to 1.
            ledger: ledger of the run.
            round_: number of the round.
        """
        self.share, self.ledger, self.round = share, ledger, round_
        self.prompts, self.pairs, self.first = Count(), Count(), ""
        self._parts: dict[int, Tally] = {}
        for tally in self._stored().values():
            self._count(tally)

    def check(self, tally: Tally) -> None:
        """Count a part; one that was counted before, such as a prepared one, counts once.

        Raises:
            TooManyQuarantined: there are too many quarantined prompts or pairs.
        """
        self._count(tally)
        if self._too_many_prompts():
            remedy = remedies.for_prompts(_most_frequent(self.prompts))
            raise self._error("prompts", self.prompts, f" (first: {self.first})", remedy)
        if self.pairs.is_above(self.share):
            raise self._error("pairs", self.pairs, "", remedies.for_pairs(_most_frequent(self.pairs)))

    def remove_parts(self) -> None:
        """If too many are quarantined, remove the parts with quarantined rows of that kind, so that they are made again.

        Those with quarantined pairs are made from their prepared candidates, if there are any. Call it before a graph is
        started: a run that has ended above the limit keeps all parts, for the case that it goes on with a higher one.
        """
        prompts = self._too_many_prompts()
        if not (prompts or self.pairs.is_above(self.share)):
            return
        for part, tally in self._stored().items():
            if tally.quarantined if prompts else tally.quarantined_pairs:
                self.ledger.remove_part(self.round, part)
            if tally.quarantined and prompts:
                PreparedParts(self.ledger, self.round).remove(part)

    def _too_many_prompts(self) -> bool:
        return self.prompts.is_above(self.share) and self.prompts.reasons.total() < self.prompts.total

    def _error(self, rows: str, count: Count, example: str, remedy: str) -> TooManyQuarantined:
        return TooManyQuarantined(
            f"round {self.round}: {count.reasons.total()} of {count.total} {rows} are quarantined, more than "
            f"quarantine_limit={self.share:g}: {row_accounting.counts_text(count.reasons)}{example}; {remedy}, or raise "
            "quarantine_limit"
        )

    def _count(self, tally: Tally) -> None:
        if known := self._parts.get(tally.part):
            self.prompts.take_back(known.prompts, known.quarantined)
            self.pairs.take_back(known.pairs, known.quarantined_pairs)
        self._parts[tally.part] = tally
        self.prompts.add(tally.prompts, tally.quarantined)
        self.pairs.add(tally.pairs, tally.quarantined_pairs)
        self.first = self.first or tally.first_quarantined

    def _stored(self) -> dict[int, Tally]:
        """What is quarantined in each part that is prepared or committed."""
        prepared = PreparedParts(self.ledger, self.round)
        numbers = prepared.numbers()
        reasons = self.ledger.each_part(prepared.quarantined, numbers)
        tallies = {
            part: Tally(part, len(found), dict(Counter(filter(None, found))))
            for part, found in zip(numbers, reasons, strict=True)
        }
        return tallies | {part: _tally(part, marker) for part, marker in self.ledger.part_markers(self.round).items()}


def _tally(part: int, marker: Mapping[str, Any]) -> Tally:
    """The tally of a committed part."""
    generated, selected = marker["row_counts"]["generate"], marker["row_counts"]["select"]
    return Tally(
        part,
        marker["tables"]["rows"]["rows"],
        generated["quarantined"],
        marker["first_quarantined"],
        selected["rows_in"],
        selected["quarantined"],
    )


def _most_frequent(count: Count) -> str:
    return count.reasons.most_common(1)[0][0]
