"""Critique and select stage: writes K critiques of each side of a pair, then selects by margin.

With `selection.mastered` below 1, or `selection.own`, the newest version first judges both sides without evidence. Pairs that
it has mastered are not critiqued, except for a share of them.

Pairs about images that are held out get no critiques and are not selected.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.holdout import HELD_OUT, is_held_out
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages.critics import Critics
from vlrm_ray.pipeline.stages.statement_check import StatementCheck
from vlrm_ray.pipeline.stages.verify import extractor_and_verifier
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.preferences.difficulty import MASTERED, is_kept
from vlrm_ray.preferences.selection import select
from vlrm_ray.store.rows import EVIDENCE, Row, from_table, with_columns
from vlrm_ray.types import NO, YES, Candidate, Pair, ScoredCritique, SelectedPair

Side = tuple[Row, Pair, Candidate]
"""One candidate of a pair, with the row that both belong to."""
Critiques = tuple[ScoredCritique, ...] | str
"""The scored critiques of a side, or the reason why the engine refused to write them."""
OWN = "own"
"""Writer of a critique that the newest version wrote without evidence."""


class Critique:
    """Asks the critics for critiques of the pairs of a part, and selects the pairs to train on.

    The critics get the experts' evidence as the prefix of the critique or as a hint in the prompt.
    """

    def __init__(self, config: Config, critics: Critics, stage_actors: StageActors) -> None:
        """Prepare the stage.

        Args:
            config: configuration of the run.
            critics: the engines that write and judge.
            stage_actors: what the statements of critiques are checked with.
        """
        self.config, self.critic, self.rule, self.critics = config, config.critic, config.selection, critics
        self.critique_format = FORMATS[config.critic.format]
        self.check = StatementCheck(*extractor_and_verifier(config, stage_actors), self.critique_format)
        # extractors that are slower than the rules are used only if the selection depends on it
        self.checks = self.rule.checked or self.rule.asks_unaided or config.experts.extractor == "rule"
        self.with_evidence = config.pairing.labels == "experts"

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the pairs' critiques, `selected` and `rejected`."""
        rows = from_table(table, ["candidates", "pairs", *EVIDENCE])
        training = [row for row in rows if row.pairs and not is_held_out(self.config, row.prompt.sha256)]
        for row in rows:
            row.rejected = {pair.pair_id: HELD_OUT for pair in row.pairs}
        if self.rule.asks_unaided and training:
            await self._judge_unaided(training)
        sides = _sides([(row, pair) for row in training for pair in row.pairs if is_kept(pair, self.rule)])
        critiques = iter(await self._critiques(rows[0].part, sides) if sides else [])
        for row in training:
            judged = [
                self._judged(pair, next(critiques), next(critiques)) if is_kept(pair, self.rule) else (pair, MASTERED)
                for pair in row.pairs
            ]
            row.pairs = tuple(pair for pair, _ in judged)
            row.selected = tuple(o for _, o in judged if isinstance(o, SelectedPair))
            row.rejected = {pair.pair_id: o for pair, o in judged if isinstance(o, str)}
        per_side = self.critic.k if self.critique_format.has_critique else 1
        self.critics.board.add("critique", len(sides) * per_side)
        self.critics.board.add("select", sum(len(row.selected) for row in rows))
        return with_columns(table, rows, "pairs", "selected", "rejected")

    def _judged(self, pair: Pair, chosen: Critiques, rejected: Critiques) -> tuple[Pair, SelectedPair | str]:
        """A pair with its critiques, and what is selected of it or the reason why not."""
        refused = [side for side in (chosen, rejected) if isinstance(side, str)]
        pair = replace(
            pair,
            chosen_critiques=() if isinstance(chosen, str) else chosen,
            rejected_critiques=() if isinstance(rejected, str) else rejected,
        )
        if refused:
            return pair, refused[0]
        return pair, select(pair, self.rule)

    async def _judge_unaided(self, rows: Sequence[Row]) -> None:
        """Fill in `unaided` of the rows' pairs; a pair that the engine refuses to judge has none, so it is kept."""
        sides = _sides([(row, pair) for row in rows for pair in row.pairs])
        requests = [
            Request(self.critique_format.prompt(row.prompt.question, candidate.text), row.prompt.image)
            for row, _, candidate in sides
        ]
        answers = await self.critics.judge(rows[0].part, requests, Sampling(self.critic.max_tokens, judgement="ask"))
        found = [
            (replace(scored_critique(answer), writer=OWN), row.evidence)
            for answer, (row, *_) in zip(answers, sides, strict=True)
        ]
        self.critics.board.add("unaided", len(answers))
        checked = await asyncio.to_thread(self.check.checked, found)
        critiques = iter(zip(checked, answers, strict=True))
        for row in rows:
            pairs = []
            for pair in row.pairs:
                both = [next(critiques), next(critiques)]
                unaided = () if any(answer.refused for _, answer in both) else tuple(c for c, _ in both)
                pairs.append(replace(pair, unaided=unaided))
            row.pairs = tuple(pairs)

    async def _critiques(self, part: int, sides: Sequence[Side]) -> list[Critiques]:
        """The scored critiques of each side, or the reason why the engine refused them."""
        requests = [self._request(*side) for side in sides]
        if not self.critique_format.has_critique:  # no text to generate: the correct label with the model's reward
            scores = await self.critics.score(part, requests)
            labels = [YES if candidate is pair.chosen else NO for _, pair, candidate in sides]
            return [
                score.refused or (replace(scored_critique(score), text=label),)
                for score, label in zip(scores, labels, strict=True)
            ]
        sampling = Sampling(self.critic.max_tokens, self.critic.temperature, n=self.critic.k, judgement="ask")
        answers = await self.critics.write(part, requests, sampling)
        written = [
            group[0][0].refused or tuple(_with_prefix(request, *answer) for answer in group)
            for request, group in zip(requests, answers, strict=True)
        ]
        return await self._checked(written, sides) if self.with_evidence and self.checks else written

    async def _checked(self, written: Sequence[Critiques], sides: Sequence[Side]) -> list[Critiques]:
        """The critiques with their numbers of false statements."""
        flat = [
            (critique, row.evidence)
            for critiques, (row, *_) in zip(written, sides, strict=True)
            if not isinstance(critiques, str)
            for critique in critiques
        ]
        checked = iter(await asyncio.to_thread(self.check.checked, flat))
        return [c if isinstance(c, str) else tuple(next(checked) for _ in c) for c in written]

    def _request(self, row: Row, pair: Pair, candidate: Candidate) -> Request:
        evidence = describe_evidence(self.check.verifier.certain(row.evidence)) if self.with_evidence else None
        prefix = self.critique_format.prefix(evidence)
        text = self.critique_format.prompt(row.prompt.question, candidate.text, None if prefix else evidence)
        seed = seed_of("critique", pair.pair_id, candidate.candidate_id)
        return Request(text, row.prompt.image, seed=seed, prefix=prefix)


def _sides(pairs: Sequence[tuple[Row, Pair]]) -> list[Side]:
    """Both candidates of each pair: the chosen, then the rejected one."""
    return [(row, pair, candidate) for row, pair in pairs for candidate in (pair.chosen, pair.rejected)]


def _with_prefix(request: Request, answer: Completion, writer: str) -> ScoredCritique:
    """The full critique: the prefix that the engine was given, and what it wrote after it."""
    critique = scored_critique(answer)
    return replace(critique, text=f"{request.prefix} {critique.text}".strip(), writer=writer)
