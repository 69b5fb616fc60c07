"""Self-label stage: scores each candidate with the reward model, without the experts' evidence.

This is the usual way to label preference data, which the experts replace. It runs with `pairing.labels: self`.
"""

from dataclasses import replace

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.engines import Request, Sampling, scored_critique
from vlrm_ray.pipeline.stages.engine_pool import EnginePool
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.rows import Row, from_table, with_columns
from vlrm_ray.types import Candidate


class SelfLabel:
    """Asks the critics for one greedy critique of each candidate of a part."""

    def __init__(self, config: Config, engines: EnginePool) -> None:
        """Prepare the stage, which calls the critique writers."""
        self.critic, self.engines = config.critic, engines
        self.critique_format = FORMATS[config.critic.format]

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the candidates' `reward`. A candidate whose critique the engine refuses has none, and is in no pair."""
        rows = from_table(table, ["candidates"])
        requests = [self._request(row, candidate) for row in rows for candidate in row.candidates]
        sampling = Sampling(self.critic.max_tokens, judgement="ask")
        answers = await self.engines.generate("self-label", rows[0].part, requests, sampling)
        rewards = iter([None if group[0].refused else scored_critique(group[0]).reward for group in answers])
        for row in rows:
            row.candidates = tuple(replace(candidate, reward=next(rewards)) for candidate in row.candidates)
        self.engines.board.add("self-label", len(requests))
        return with_columns(table, rows, "candidates")

    def _request(self, row: Row, candidate: Candidate) -> Request:
        return Request(self.critique_format.prompt(row.prompt.question, candidate.text), row.prompt.image)
