"""Stops a run of which too many prompts are quarantined."""

from collections import Counter

from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import remedies, row_accounting
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

FEWEST_PROMPTS = 50
"""Prompts that must have been processed before the share of quarantined ones counts."""


class QuarantineLimit:
    """Counts the quarantined prompts of a round, and ends the run above a share of all of them."""

    def __init__(self, share: float, ledger: Ledger, round_: int) -> None:
        """Count from zero.

        Args:
            share: largest share of quarantined prompts, 0 to 1.
            ledger: ledger of the run.
            round_: number of the round.
        """
        self.share, self.ledger, self.round = share, ledger, round_
        self.prompts, self.reasons = 0, Counter[str]()
        self.first, self.parts = "", list[int]()

    def check(self, tally: Tally) -> None:
        """Count a part.

        Raises:
            UserError: there are too many quarantined prompts. Parts that have some are removed, so that the next start
                makes them again.
        """
        self.prompts += tally.prompts
        self.reasons.update(tally.quarantined)
        self.first = self.first or tally.first_quarantined
        if tally.quarantined:
            self.parts.append(tally.part)
        quarantined = self.reasons.total()
        if self.prompts < FEWEST_PROMPTS or quarantined <= self.share * self.prompts or quarantined == self.prompts:
            return
        for part in self.parts:
            self.ledger.remove_part(self.round, part)
            PreparedParts(self.ledger, self.round).remove(part)
        reason = self.reasons.most_common(1)[0][0]
        raise UserError(
            f"round {self.round}: {quarantined} of {self.prompts} prompts are quarantined, more than "
            f"quarantine_limit={self.share:g}: {row_accounting.counts_text(self.reasons)} (first: {self.first}); "
            f"{remedies.for_prompts(reason)}, or raise quarantine_limit"
        )
