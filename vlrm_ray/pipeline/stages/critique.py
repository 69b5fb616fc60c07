"""Critique and select stage: writes K critiques of each side of a pair, then selects by margin.

Pairs about images that are held out get no critiques and are not selected.
"""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.holdout import HELD_OUT, is_held_out
from vlrm_ray.pipeline.stages.engine_pool import EnginePool
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.preferences.selection import select
from vlrm_ray.store.rows import EVIDENCE, Row, from_table, with_columns
from vlrm_ray.types import NO, YES, Candidate, Pair, ScoredCritique, SelectedPair

Side = tuple[Row, Pair, Candidate]
"""One candidate of a pair, with the row that both belong to."""
Critiques = tuple[ScoredCritique, ...] | str
"""The scored critiques of a side, or the reason why the engine refused to write them."""


class Critique:
    """Asks the critics for critiques of the pairs of a part, and selects the pairs to train on.

    The critics get the experts' evidence as the prefix of the critique or as a hint in the prompt.
    """

    def __init__(self, config: Config, engines: EnginePool) -> None:
        """Prepare the stage, which calls the critique writers."""
        self.config, self.critic, self.rule, self.engines = config, config.critic, config.selection, engines
        self.critique_format = FORMATS[config.critic.format]
        self.with_evidence = config.pairing.labels == "experts"

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the pairs' critiques, `selected` and `rejected`."""
        rows = from_table(table, ["candidates", "pairs", *EVIDENCE])
        training = [row for row in rows if row.pairs and not is_held_out(self.config, row.prompt.sha256)]
        sides = [
            (row, pair, candidate)
            for row in training
            for pair in row.pairs
            for candidate in (pair.chosen, pair.rejected)
        ]
        critiques = iter(await self._critiques(rows[0].part, sides) if sides else [])
        for row in rows:
            row.rejected = {pair.pair_id: HELD_OUT for pair in row.pairs}
        for row in training:
            judged = [self._judged(pair, next(critiques), next(critiques)) for pair in row.pairs]
            row.pairs = tuple(pair for pair, _ in judged)
            row.selected = tuple(o for _, o in judged if isinstance(o, SelectedPair))
            row.rejected = {pair.pair_id: o for pair, o in judged if isinstance(o, str)}
        per_side = self.critic.k if self.critique_format.has_critique else 1
        self.engines.board.add("critique", len(sides) * per_side)
        self.engines.board.add("select", sum(len(row.selected) for row in rows))
        return with_columns(table, rows, "pairs", "selected", "rejected")

    def _judged(self, pair: Pair, chosen: Critiques, rejected: Critiques) -> tuple[Pair, SelectedPair | str]:
        """A pair with its critiques, and what is selected of it or the reason why not."""
        refused = [side for side in (chosen, rejected) if isinstance(side, str)]
        pair = replace(
            pair,
            chosen_critiques=() if isinstance(chosen, str) else chosen,
            rejected_critiques=() if isinstance(rejected, str) else rejected,
        )
        return pair, refused[0] if refused else select(pair, self.rule)

    async def _critiques(self, part: int, sides: Sequence[Side]) -> list[Critiques]:
        """The scored critiques of each side, or the reason why the engine refused them."""
        requests = [self._request(*side) for side in sides]
        if not self.critique_format.has_critique:  # no text to generate: the correct label with the model's reward
            scores = await self.engines.score("critique", part, requests)
            labels = [YES if candidate is pair.chosen else NO for _, pair, candidate in sides]
            return [
                score.refused or (replace(scored_critique(score), text=label),)
                for score, label in zip(scores, labels, strict=True)
            ]
        sampling = Sampling(self.critic.max_tokens, self.critic.temperature, n=self.critic.k, judgement="ask")
        answers = await self.engines.generate("critique", part, requests, sampling)
        return [
            group[0].refused or tuple(_with_prefix(request, answer) for answer in group)
            for request, group in zip(requests, answers, strict=True)
        ]

    def _request(self, row: Row, pair: Pair, candidate: Candidate) -> Request:
        evidence = describe_evidence(row.evidence) if self.with_evidence else None
        prefix = self.critique_format.prefix(evidence)
        text = self.critique_format.prompt(row.prompt.question, candidate.text, None if prefix else evidence)
        seed = seed_of("critique", pair.pair_id, candidate.candidate_id)
        return Request(text, row.prompt.image, seed=seed, prefix=prefix)


def _with_prefix(request: Request, answer: Completion) -> ScoredCritique:
    """The full critique: the prefix that the engine was given, and what it wrote after it."""
    critique = scored_critique(answer)
    return replace(critique, text=f"{request.prefix} {critique.text}".strip())
