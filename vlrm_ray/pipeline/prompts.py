"""Prompt sources: the embedded scenes, a JSONL or Parquet file, or a folder of images."""

import io
import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.ids import digest, seed_of
from vlrm_ray.store.images import SUFFIXES
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import PromptRef

SCENES = "scenes"
"""Value of `prompts.source` that selects the embedded scenes."""
_ROUND_SEEDS = 1_000_000
"""A round's scene seeds start at a multiple of this number; pre-training and ScenesBench use other seeds."""


def prompts_of_round(config: Config, round_: int, ledger: Ledger) -> list[PromptRef]:
    """The prompts of a round, sorted so that those about the same image are adjacent.

    The order of a file or folder is shuffled once with the run's seed; each round takes the next
    `prompts.per_round` prompts and starts over at the end.

    Args:
        config: configuration of the run.
        round_: number of the round; 1 is the first.
        ledger: stores the images of rendered scenes.

    Raises:
        UserError: if the source does not exist or cannot be read.
    """
    source, count = config.prompts.source, config.prompts.per_round
    if source == SCENES:
        return list(_scenes(config.seed, round_, count, ledger))
    prompt_refs = list(read_prompts(source, config.prompts.question))
    random.Random(seed_of("prompts", config.seed)).shuffle(prompt_refs)
    first = (round_ - 1) * count
    taken = [prompt_refs[i % len(prompt_refs)] for i in range(first, first + min(count, len(prompt_refs)))]
    return sorted(taken, key=lambda ref: (ref.image, ref.question))


@lru_cache(maxsize=2)
def read_prompts(source: str, question: str) -> tuple[PromptRef, ...]:
    """Read the prompts of a source, without duplicates.

    Args:
        source: JSONL or Parquet file with the columns `image` and `question`, or a folder of images.
        question: question about each image of a folder.

    Raises:
        UserError: if the source does not exist, cannot be read or holds no prompts.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(path.rglob("*"))
        prompt_refs = [PromptRef(str(p.resolve()), question) for p in files if p.suffix.lower() in SUFFIXES]
        missing = f"folder {source} holds no images ({', '.join(SUFFIXES)})"
    elif path.is_file():
        rows = _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
        prompt_refs = [_prompt_ref(row, path, number) for number, row in rows]
        missing = f"{source} holds no prompts"
    else:
        raise UserError(
            f"prompts.source {source} does not exist; give 'scenes', a .jsonl or .parquet file, or a folder of images"
        )
    if not prompt_refs:
        raise UserError(f"prompts.source: {missing}; add some, or set prompts.source to another source")
    return tuple(dict.fromkeys(prompt_refs))


def _jsonl(path: Path) -> Iterator[tuple[int, object]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path} line {number} is not JSON ({error.msg}); correct or remove the line") from None


def _parquet(path: Path) -> Iterator[tuple[int, object]]:
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()), columns=["image", "question"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a Parquet file with the columns image and question: {str(error).splitlines()[0]}"
        ) from None
    yield from enumerate(table.to_pylist(), 1)


def _prompt_ref(row: object, path: Path, number: int) -> PromptRef:
    """Validate a row; a relative image path is resolved against the file's folder."""
    values = [row.get(key) for key in ("image", "question")] if isinstance(row, dict) else [None]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise UserError(
            f"{path} row {number}: expected the strings 'image' and 'question', got {str(row)[:80]}; correct the row"
        )
    image, question = (str(value) for value in values)
    uri = image if "://" in image or Path(image).is_absolute() else str((path.parent / image).resolve())
    return PromptRef(uri, question)


def _scenes(seed: int, round_: int, count: int, ledger: Ledger) -> Iterator[PromptRef]:
    from vlrm_ray.scenes.images import store_image
    from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
    from vlrm_ray.scenes.world import ROUND_WORLD

    first = 100 * _ROUND_SEEDS + (seed * 1000 + round_) * _ROUND_SEEDS
    for index in range(count):
        scene = ROUND_WORLD.sample(first + index)
        exchange = any_exchange(scene, random.Random(digest("ask", seed, round_, index)), ROUND_KINDS)
        yield PromptRef(store_image(scene, ledger), exchange.question)
