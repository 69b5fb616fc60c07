"""Ingest stage: reads, checks and hashes each image."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.errors import BadImage
from vlrm_ray.experts.attempts import Attempts, restarted_actor
from vlrm_ray.ids import digest
from vlrm_ray.pipeline.stage_actors import ProgressReporter
from vlrm_ray.store.arrow_types import codec
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import PROMPT, Row, to_table
from vlrm_ray.store.web import ingest_image
from vlrm_ray.types import GivenResponse, Prompt, PromptRef

READERS = 8
"""Images of a part that are read at the same time."""
ENDS_PROCESS = "image_ends_the_process"
"""Reason of a prompt whose image has ended the process that decoded it, again and again."""


def prompt_table(part: int, prompt_refs: Sequence[PromptRef]) -> pa.Table:
    """The prompts of a part, as the input of `Ingest`."""
    return pa.table(
        {
            "part": pa.array([part] * len(prompt_refs), pa.int64()),
            "image": pa.array([ref.image for ref in prompt_refs], pa.string()),
            "question": pa.array([ref.question for ref in prompt_refs], pa.string()),
            "problem": pa.array([ref.problem for ref in prompt_refs], pa.string()),
            "responses": codec(tuple[GivenResponse, ...]).encode([ref.responses for ref in prompt_refs]),
        }
    )


class Ingest:
    """Quarantines the rows with a problem or without a usable image."""

    def __init__(self, round_: int, config: Config, board: ProgressReporter, store: Ledger) -> None:
        """Prepare the stage.

        Args:
            round_: number of the round.
            config: configuration of the run.
            board: where the progress is reported.
            store: where images of the web are kept.
        """
        self.round, self.seed, self.board = round_, config.seed, board
        self.hosts, self.store = config.prompts.allow_hosts, store
        self._attempts = Attempts("ingest", store, restarted_actor())

    def __call__(self, table: pa.Table) -> pa.Table:
        """Turn a table of `prompt_table` into rows."""
        start, refs = time.monotonic(), table.to_pylist()
        if self._attempts.careful_calls:
            self._attempts.careful_calls -= 1
            rows = [self._alone(ref, len(refs)) for ref in refs]
            self._attempts.save()
        else:
            with ThreadPoolExecutor(READERS) as readers:
                rows = list(readers.map(lambda ref: self._row(ref, self._problem(ref), len(refs)), refs))
        self.board.add("prompts", len(rows), time.monotonic() - start)
        return to_table(rows, (*PROMPT, "given"))

    def _alone(self, ref: dict[str, Any], part_rows: int) -> Row:
        """The row of a prompt, which is noted until it is there: the process has ended before, perhaps on its image."""
        problem = self._problem(ref)
        with nullcontext() if problem else self._attempts.noted(_key(ref)):
            return self._row(ref, problem, part_rows)

    def _problem(self, ref: dict[str, Any]) -> str:
        return str(ref["problem"]) or (ENDS_PROCESS if self._attempts.given_up(_key(ref)) else "")

    def _row(self, ref: dict[str, Any], problem: str, part_rows: int) -> Row:
        image, sha256 = ref["image"], ""
        if not problem:
            try:
                image, sha256 = ingest_image(image, self.store, self.hosts)
            except BadImage as error:
                problem = str(error)
        prompt_id = digest("prompt", sha256 or image, ref["question"], self.round, self.seed)
        prompt = Prompt(prompt_id, image, sha256, ref["question"])
        given = tuple(GivenResponse(**response) for response in ref["responses"])
        return Row(ref["part"], self.round, prompt, problem, part_rows, given=given)


def _key(ref: dict[str, Any]) -> str:
    """Stands for a prompt's image, whose content is not known before it is read."""
    return digest("image", ref["image"])
