"""Where images and questions come from: the embedded scenes, a table, or a folder of images."""

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
_ROUND_SEEDS = 1_000_000
"""Scene seeds of a round begin at a multiple of this; pre-training and the bench use others."""


def prompts_of_round(config: Config, round_: int, ledger: Ledger) -> list[PromptRef]:
    """The prompts of a round (1 is the first), those about one image side by side; raises UserError."""
    source, count = config.prompts.source, config.prompts.per_round
    if source == SCENES:
        return list(_scenes(config.seed, round_, count, ledger))
    asks = list(read(source, config.prompts.question))
    random.Random(seed_of("prompts", config.seed)).shuffle(asks)
    first = (round_ - 1) * count
    taken = [asks[i % len(asks)] for i in range(first, first + min(count, len(asks)))]
    return sorted(taken, key=lambda a: (a.image, a.question))


@lru_cache(maxsize=2)
def read(source: str, question: str) -> tuple[PromptRef, ...]:
    """Prompts of a JSONL or Parquet file, or of a folder of images; raises UserError."""
    path = Path(source)
    if path.is_dir():
        asks = [PromptRef(str(p.resolve()), question) for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES]
        missing = f"folder {source} holds no images ({', '.join(SUFFIXES)})"
    elif path.is_file():
        rows = _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
        asks = [_ask(row, path, number) for number, row in rows]
        missing = f"{source} holds no prompts"
    else:
        raise UserError(
            f"prompts.source {source} does not exist; give 'scenes', a .jsonl or .parquet file, or a folder of images"
        )
    if not asks:
        raise UserError(f"{missing}; add some, or point prompts.source elsewhere")
    return tuple(dict.fromkeys(asks))


def _jsonl(path: Path) -> Iterator[tuple[int, object]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path} line {number} is not JSON: {error.msg}") from None


def _parquet(path: Path) -> Iterator[tuple[int, object]]:
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()), columns=["image", "question"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a Parquet file with columns image and question: {str(error).splitlines()[0]}"
        ) from None
    yield from enumerate(table.to_pylist(), 1)


def _ask(row: object, path: Path, number: int) -> PromptRef:
    values = [row.get(key) for key in ("image", "question")] if isinstance(row, dict) else [None]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise UserError(f"{path} row {number}: expected texts 'image' and 'question', got {str(row)[:80]}")
    image, question = (str(value) for value in values)
    located = image if "://" in image or Path(image).is_absolute() else str((path.parent / image).resolve())
    return PromptRef(located, question)


def _scenes(seed: int, round_: int, count: int, ledger: Ledger) -> Iterator[PromptRef]:
    from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
    from vlrm_ray.scenes.pictures import store_picture
    from vlrm_ray.scenes.world import ROUNDS

    first = 100 * _ROUND_SEEDS + (seed * 1000 + round_) * _ROUND_SEEDS
    for index in range(count):
        scene = ROUNDS.sample(first + index)
        said = any_exchange(scene, random.Random(digest("ask", seed, round_, index)), ROUND_KINDS)
        yield PromptRef(store_picture(scene, ledger), said.question)
