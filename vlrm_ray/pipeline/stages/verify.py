"""Verify and pair stage: extracts claims, checks them against the experts' evidence, and makes pairs."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from ray.actor import ActorHandle

from vlrm_ray.claims import Extraction, Extractor, GenerateFunction, make_extractor
from vlrm_ray.config import Config
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.engine_calls import get
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages.engine_pool import EnginePool
from vlrm_ray.preferences.pairing import make_pairs
from vlrm_ray.store import garbage_collection
from vlrm_ray.store.rows import EVIDENCE, Row, from_table, with_columns
from vlrm_ray.types import Candidate


class VerifyAndPair:
    """Verifies the candidates of a part and makes pairs of them."""

    def __init__(self, config: Config, stage_actors: StageActors) -> None:
        """Load the extractor and the experts' calibrations."""
        self.extractor, self.verifier = extractor_and_verifier(config, stage_actors)
        self.rule, self.board = config.pairing, stage_actors.board

    @garbage_collection.paused()
    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in each candidate's claims with their verdicts, and the row's `pairs` and `unused`."""
        start, rows = time.monotonic(), from_table(table, ["candidates", *EVIDENCE])
        found = iter(self.extractor.claims_batch([(c.text, r.prompt.question) for r in rows for c in r.candidates]))
        for row in rows:
            row.candidates = tuple(self._verified(row, candidate, next(found)) for candidate in row.candidates)
            pairs, row.unused = make_pairs(row.prompt, row.candidates, self.rule)
            row.pairs = tuple(pairs)
        table = with_columns(table, rows, "candidates", "pairs", "unused")
        self.board.add("verify", sum(len(row.candidates) for row in rows), time.monotonic() - start)
        self.board.add("pair", sum(len(row.pairs) for row in rows))
        return table

    def _verified(self, row: Row, candidate: Candidate, found: Extraction) -> Candidate:
        checked = self.verifier.check_all(found.claims, row.evidence)
        return replace(candidate, claims=checked, fully_read=found.complete)


def extractor_and_verifier(config: Config, stage_actors: StageActors) -> tuple[Extractor, Verifier]:
    """What texts are checked with: the claim extractor, and the verifier with the experts' calibrations."""
    generate: GenerateFunction | None = None
    if stage_actors.extractor is not None:
        generate = _remote_generate(stage_actors.extractor, config.cluster.call_timeout)
    elif config.experts.extractor == "llm":
        generate = _policy_generate(config, stage_actors)
    verifier = stage_actors.verifier or Verifier.from_config(config.experts)
    return make_extractor(config.experts.extractor, generate), verifier


def _remote_generate(actor: ActorHandle[Any], timeout: float) -> GenerateFunction:
    """The `generate` method of an engine that runs in an actor, as a plain function."""

    def generate(requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        call = {"extractor-0": actor.generate.remote(list(requests), sampling)}
        answers: list[list[Completion]] = get(call, timeout, "claims")[0]
        return answers

    return generate


def _policy_generate(config: Config, stage_actors: StageActors) -> GenerateFunction:
    """The policy's engines as a plain function, for any thread: requests go to the least loaded ones.

    An event loop of its own in a thread sends them, so that all calls in this process count in one pool.
    """
    pool = EnginePool.of("policy", config, stage_actors)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="extract", daemon=True).start()

    def generate(requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        # a reproducible batch goes to an engine by its content, so that it is answered by the same one each time
        part = seed_of("extract", requests[0].text) if requests else 0
        answers = pool.generate("extract", part, requests, sampling)
        found = asyncio.run_coroutine_threadsafe(answers, loop).result()
        pool.board.add("extract", len(requests))
        return found

    return generate
