"""Stops a run of which too many prompts are quarantined."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import remedies, row_accounting
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

FEWEST_PROMPTS = 50
"""Prompts that must have been processed before the share of quarantined ones counts."""


class TooManyQuarantined(UserError):
    """The share of quarantined prompts is above `quarantine_limit`."""


class QuarantineLimit:
    """Counts the quarantined prompts of a round, over all sessions, and ends the run above a share of all of them.

    Attributes:
        prompts: number of prompts so far.
        reasons: number of quarantined prompts by reason.
        first: image, question and reason of the first one that is known; "" without one.
    """

    def __init__(self, share: float, ledger: Ledger, round_: int) -> None:
        """Start with the parts that are committed or prepared.

        Args:
            share: largest share of quarantined prompts, 0 to 1.
            ledger: ledger of the run.
            round_: number of the round.
        """
        self.share, self.ledger, self.round = share, ledger, round_
        self.prompts, self.reasons, self.first = 0, Counter[str](), ""
        self._parts: dict[int, Tally] = {}
        for tally in self._stored().values():
            self._count(tally)

    def check(self, tally: Tally) -> None:
        """Count a part; one that was counted before, such as a prepared one, counts once.

        Raises:
            TooManyQuarantined: there are too many quarantined prompts.
        """
        self._count(tally)
        quarantined = self.reasons.total()
        if self.prompts < FEWEST_PROMPTS or quarantined <= self.share * self.prompts or quarantined == self.prompts:
            return
        reason = self.reasons.most_common(1)[0][0]
        raise TooManyQuarantined(
            f"round {self.round}: {quarantined} of {self.prompts} prompts are quarantined, more than "
            f"quarantine_limit={self.share:g}: {row_accounting.counts_text(self.reasons)} (first: {self.first}); "
            f"{remedies.for_prompts(reason)}, or raise quarantine_limit"
        )

    def remove_parts(self) -> None:
        """Remove the round's parts that have quarantined prompts, so that the next start makes them again.

        Call it when no graph works on the round any more: until then, parts are committed.
        """
        for part, tally in self._stored().items():
            if tally.quarantined:
                self.ledger.remove_part(self.round, part)
                PreparedParts(self.ledger, self.round).remove(part)

    def _count(self, tally: Tally) -> None:
        if known := self._parts.get(tally.part):
            self.prompts -= known.prompts
            self.reasons.subtract(known.quarantined)
        self._parts[tally.part] = tally
        self.prompts += tally.prompts
        self.reasons.update(tally.quarantined)
        self.reasons += Counter[str]()  # drops zeros
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
    quarantined = marker["row_counts"]["generate"]["quarantined"]
    return Tally(part, marker["tables"]["rows"]["rows"], quarantined, marker["first_quarantined"])
