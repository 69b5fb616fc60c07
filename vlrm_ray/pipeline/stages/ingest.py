"""Ingest stage: reads, checks and hashes each image, and turns the hues of some."""

import random
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.attempts import Attempts, restarted_actor
from vlrm_ray.ids import digest, falls_in, seed_of, sha256_of
from vlrm_ray.pipeline.holdout import is_held_out
from vlrm_ray.pipeline.stage_actors import ProgressReporter
from vlrm_ray.store.arrow_types import codec
from vlrm_ray.store.images import read_bytes, with_turned_hues
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_files import store_image_bytes
from vlrm_ray.store.rows import PROMPT, Row, to_table
from vlrm_ray.store.web import ingest_image
from vlrm_ray.types import GivenResponse, Prompt, PromptRef

READERS = 8
"""Images of a part that are read at the same time."""
LEAST_TURN = 20
"""Least angle in degrees between the hues of an image and those of its recolored copy."""
COPIES = 20
"""Most recolored copies that are made of an image to find one that is not held out; those of a nearly gray image may be all alike."""
LEAST_MISSING = 10
"""With fewer different images in a part, nothing is concluded from their absence."""
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
            store: where images of the web and recolored ones are kept.
        """
        self.round, self.board = round_, board
        self.config, self.store = config, store
        self._attempts = Attempts("ingest", store, restarted_actor())

    def __call__(self, table: pa.Table) -> pa.Table:
        """Turn a table of `prompt_table` into rows.

        Raises:
            UserError: this node finds none of the part's images.
        """
        start, refs = time.monotonic(), table.to_pylist()
        if self._attempts.careful_calls:
            self._attempts.careful_calls -= 1
            rows = [self._alone(ref, len(refs)) for ref in refs]
            self._attempts.save()
        else:
            with ThreadPoolExecutor(READERS) as readers:
                rows = list(readers.map(lambda ref: self._row(ref, self._problem(ref), len(refs)), refs))
        if self.config.quarantine_limit < 1:
            _check_some_are_found(rows)
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
                image, sha256 = ingest_image(image, self.store, self.config.prompts.allow_hosts)
                if not ref["responses"]:
                    image, sha256 = recolored(image, sha256, self.round, self.config, self.store)
            except BadImage as error:
                problem = str(error)
        prompt_id = digest("prompt", sha256 or image, ref["question"], self.round, self.config.seed)
        prompt = Prompt(prompt_id, image, sha256, ref["question"])
        given = tuple(GivenResponse(**response) for response in ref["responses"])
        return Row(ref["part"], self.round, prompt, problem, part_rows, given=given)


def recolored(image: str, sha256: str, round_: int, config: Config, store: Ledger) -> tuple[str, str]:
    """URI and sha256 of a copy of an image with all hues turned, if it belongs to the share `prompts.recolor`; else its own.

    The angle is drawn by the run's seed, the round and the image, at least `LEAST_TURN` degrees from the original. Gray and held-out images
    stay as they are, and no copy is held out, so that held-out pairs are about images of the user's.

    Raises:
        BadImage: the image cannot be read any more.
    """
    drawn = (config.seed, round_, sha256)
    if not falls_in(config.prompts.recolor, "recolor", *drawn) or is_held_out(config, sha256):
        return image, sha256
    data = read_bytes(image)
    angles = (random.Random(seed_of("turn", i, *drawn)).uniform(LEAST_TURN, 360 - LEAST_TURN) for i in range(COPIES))
    copies = (with_turned_hues(data, angle) for angle in angles)
    copy = next((copy for copy in copies if not is_held_out(config, sha256_of(copy))), None)
    return (image, sha256) if copy in (None, data) else (store_image_bytes(copy, store), sha256_of(copy))


def _check_some_are_found(rows: Sequence[Row]) -> None:
    """Stop a node that finds no image: else it would quarantine, as missing, each one that it happens to get.

    Prompts are shuffled by image, so a whole part without images says little about the prompts and much about the node.
    """
    looked_for = [row for row in rows if row.prompt.sha256 or row.quarantined == "image_missing"]
    images = {row.prompt.image for row in looked_for if "://" not in row.prompt.image}
    if len(images) >= LEAST_MISSING and not any(row.prompt.sha256 for row in looked_for):
        raise UserError(
            f"node {socket.gethostname()} finds none of the {len(images)} images of a part, such as {min(images)}: mount their folder there "
            "too, keep the stages off this node by a label (cluster.labels.cpu), or put the images on object storage; or correct "
            "the image paths"
        )


def _key(ref: dict[str, Any]) -> str:
    """Stands for a prompt's image, whose content is not known before it is read."""
    return digest("image", ref["image"])
