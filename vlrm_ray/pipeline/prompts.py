"""Prompt sources: the embedded scenes, a file of rows, or a folder of images; local, or in an object store by URI.

A source is read row by row, and kept as columns. A row that cannot be used, for example without a question, becomes a
prompt with a `problem`: the round quarantines it and counts it. Images inside rows are stored once, by content hash, in
`images/` of the run or the cache. Responses inside rows are read again by the rounds that use their prompts, so that the
source takes little memory.
"""

import os
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from vlrm_ray.config import Config
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.ids import digest, seed_of, sha256_of
from vlrm_ray.pipeline.prompt_rows import (
    COLUMNS,
    EMBEDDED,
    embedded_content,
    explain,
    prompt_of_row,
    question_problem,
)
from vlrm_ray.store import row_files
from vlrm_ray.store.decoding import FORMATS, SUFFIXES
from vlrm_ray.store.filesystem import below, check_remote, file_uri_path, is_remote, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_formats import IMAGE_COLUMNS, OWN, TEXT_COLUMNS, is_valid_text, printable, row_fields
from vlrm_ray.store.sources import list_source
from vlrm_ray.types import GivenResponse, PromptRef

SCENES = "scenes"
"""Value of `prompts.source` that selects the embedded scenes."""
_ROUND_SEEDS = 1_000_000
"""A round's scene seeds start at a multiple of this number; pre-training and ScenesBench use other seeds."""
_OTHER_IMAGES = (
    ".heic", ".heif", ".jxl", ".svg", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".jp2",
)  # fmt: skip
"""Suffixes of image formats that neither Pillow nor this program opens."""
_SCHEMA = pa.schema({"image": pa.string(), "question": pa.string(), "problem": pa.string()})
_GIVEN = pa.schema({"row": pa.int64(), "prompt": pa.int64()})
_BATCH = 4096
"""Prompts that are Python objects at a time."""
NO_RESPONSE = "response_not_given"
"""Reason of a prompt without responses in a run without a policy."""
_MOST_KINDS = 8
"""Largest number of kinds of ignored files that a message lists."""


@dataclass(frozen=True)
class PromptSource:
    """The prompts of a source.

    Attributes:
        table: the prompts in the order of the source, each once, as columns `image`, `question` and `problem`.
        remarks: what the user should know about it, one sentence each: the format of the rows, files and rows that are
            left out.
        given: the rows that bring responses, as columns `row`, its number in the file, and `prompt`, the index of its
            prompt; rows with the same prompt add their responses to it.
    """

    table: pa.Table
    remarks: tuple[str, ...] = ()
    given: pa.Table = field(default_factory=_GIVEN.empty_table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[PromptRef]:
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            yield from _refs(batch)

    def take(self, indices: Sequence[int]) -> list[PromptRef]:
        """The prompts with some indices, in their order, without their responses."""
        return list(_refs(self.table.take(pa.array(indices, pa.int64()))))

    @property
    def prompt_refs(self) -> tuple[PromptRef, ...]:
        """All prompts."""
        return tuple(self)


def _refs(table: pa.Table | pa.RecordBatch) -> Iterator[PromptRef]:
    return (PromptRef(row["image"], row["question"], row["problem"]) for row in table.to_pylist())


class _Collector:
    """Collects prompts into columns, each prompt once.

    Attributes:
        total: number of rows or files.
        responses: given responses that can be used.
        unusable: number of given responses that cannot be used, by reason.
    """

    def __init__(self) -> None:
        self.total = self.responses = 0
        self.unusable: Counter[str] = Counter()
        self._indices: dict[bytes, int] = {}
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[PromptRef] = []
        self._rows, self._prompts = array("q"), array("q")

    @property
    def repeated(self) -> int:
        """Number of rows or files whose prompt was there already."""
        return self.total - len(self._indices)

    def add(self, ref: PromptRef, row: int = 0) -> None:
        """Add the prompt of a row, unless it is there already, and note the row if it brings responses."""
        self.total += 1
        key = blake2b("\0".join((ref.image, ref.question, ref.problem)).encode(), digest_size=16).digest()
        known = len(self._indices)
        index = self._indices.setdefault(key, known)
        if index == known:
            self._pending.append(replace(ref, responses=()))
        if ref.responses:
            self._rows.append(row)
            self._prompts.append(index)
            self.responses += sum(not response.problem for response in ref.responses)
            self.unusable.update(response.problem for response in ref.responses if response.problem)
        if len(self._pending) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = {name: pa.array([getattr(r, name) for r in self._pending], pa.string()) for name in _SCHEMA.names}
        self._batches.append(pa.record_batch(columns, _SCHEMA))
        self._pending = []

    def source(self, remarks: Sequence[str]) -> PromptSource:
        """The collected prompts."""
        self._flush()
        given = pa.table([pa.array(self._rows, pa.int64()), pa.array(self._prompts, pa.int64())], schema=_GIVEN)
        return PromptSource(pa.Table.from_batches(self._batches, _SCHEMA), tuple(remarks), given)


def prompts_of_round(config: Config, round_: int, ledger: Ledger) -> list[PromptRef]:
    """The prompts of a round, sorted so that those about the same image are adjacent.

    The order of a file or folder is shuffled once with the run's seed; each round takes the next
    `prompts.per_round` prompts and starts over at the end.

    Args:
        config: configuration of the run.
        round_: number of the round; 1 is the first.
        ledger: stores the images of rendered scenes, and those inside rows.

    Raises:
        UserError: if the source does not exist or cannot be read.
    """
    source, count = config.prompts.source, config.prompts.per_round
    if source == SCENES:
        return list(_scenes(config.seed, round_, count, ledger))
    prompts = read_source(source, config.prompts.question)
    order = list(range(len(prompts)))
    random.Random(seed_of("prompts", config.seed)).shuffle(order)
    first = (round_ - 1) * count
    indices = [order[i % len(order)] for i in range(first, first + min(count, len(order)))]
    taken = _with_responses(prompts, indices, source)
    return _with_stored_images(sorted(taken, key=lambda ref: (ref.image, ref.question)), source, ledger)


@lru_cache(maxsize=2)
def read_source(source: str, question: str) -> PromptSource:
    """Read the prompts of a source.

    Args:
        source: path or URI of a folder of images; or of a file that `vlrm_ray.store.row_files.read_rows` reads, with rows
            in one of the formats of `vlrm_ray.store.row_formats`.
        question: question about each image of a folder.

    Raises:
        UserError: if the source does not exist, cannot be read or holds no usable prompt.
    """
    if is_remote(source):
        return _read_remote(source, question)
    path = _path_of(source)
    if path.is_dir() and source:
        return _read_folder(_local_files(path), source, question)
    if path.is_file():
        return _read_file(str(path), source)
    raise UserError(
        f"prompts.source {printable(source)} {'does not exist' if source else 'is empty'}; give 'scenes', a file of "
        "prompts (.jsonl, .json or .parquet) or a folder of images, by path or by a URI such as s3://..."
    )


def _read_remote(source: str, question: str) -> PromptSource:
    try:
        check_remote(source)
        found = list_source(source)
        if "" in found.files:
            return _read_file(source, source)
        names = sorted(found.files, key=lambda name: name.split("/"))
        return _read_folder(((name, below(source, name)) for name in names), source, question)
    except StorageError as error:
        raise UserError(f"prompts.source: {error}") from None


def _local_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and absolute path of each file of a folder and its subfolders, in order."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    for path in sorted(paths, key=lambda path: path.split(os.sep)):
        yield os.path.basename(path), os.path.realpath(path)


def _path_of(source: str) -> Path:
    """Path of a local source, which may be a file:// URI."""
    return Path(file_uri_path(source) if source[:6].lower() == "file:/" else source)


def _read_folder(files: Iterable[tuple[str, str]], source: str, question: str) -> PromptSource:
    """The prompts of a folder, from the name and the path or URI of each file."""
    if problem := question_problem(question):
        raise UserError(f"prompts.question {printable(question)!r} cannot be used ({problem}); give a question")
    collector, ignored = _Collector(), Counter[str]()
    for name, image in files:
        if kind := _why_ignored(PurePosixPath(name)):
            ignored[kind] += 1
        elif is_valid_text(image):
            collector.add(PromptRef(image, question))
        else:
            collector.add(PromptRef(printable(image), question, "image_path_not_text"))
    kinds = [f"{count} {kind}" for kind, count in sorted(ignored.items(), key=lambda item: (-item[1], item[0]))]
    if len(kinds) > _MOST_KINDS:
        kinds[_MOST_KINDS:] = [plural(len(kinds) - _MOST_KINDS, "other kind")]
    remark = f"ignored {plural(ignored.total(), 'file')}: {', '.join(kinds)}"
    shown = redacted(source)
    if not collector.total:
        raise UserError(
            f"prompts.source: folder {shown} holds no images ({', '.join(SUFFIXES)}){'; ' + remark if ignored else ''}; "
            "add some, or set prompts.source to another source"
        )
    remarks = (f"prompts.source {shown}: {plural(collector.total, 'image')}, {remark}",) if ignored else ()
    return collector.source(remarks)


def _why_ignored(path: PurePosixPath) -> str:
    """Kind of a file that is not taken as an image, with the reason; "" if it is taken."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return "hidden"
    known = Image.registered_extensions().get(suffix)
    if suffix in SUFFIXES or known in FORMATS:
        return ""
    why = "not supported" if known or suffix in _OTHER_IMAGES else "not an image"
    return f"{printable(suffix) or 'without a suffix'} ({why})"


def _read_file(file: str, source: str) -> PromptSource:
    """The prompts of a file, given by its path or URI."""
    collector = _Collector()
    problems: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    example, shown = "", redacted(source)
    for number, row in row_files.read_rows(file, COLUMNS, invalid="keep"):
        ref, form = prompt_of_row(row, file)
        collector.add(ref, number)
        formats[form] += 1
        if ref.problem:
            problems[ref.problem] += 1
            example = example or f"{redacted(file)} row {number}: {explain(ref.problem, row)}"
    if not collector.total:
        raise UserError(f"prompts.source: {shown} holds no prompts; add some, or set prompts.source to another source")
    counts = ", ".join(f"{problem} {count}" for problem, count in problems.most_common())
    if problems.total() == collector.total:
        raise UserError(f"no row of prompts.source {shown} can be used ({counts}); {example}; correct the rows")
    remarks = [f"prompts.source {shown}: {text}" for text in _remarks(collector, formats)]
    if problems:
        remark = (
            f"{problems.total()} of {collector.total} rows cannot be used and are quarantined ({counts}); {example}"
        )
        remarks.append(f"prompts.source {shown}: {remark}")
    return collector.source(remarks)


def _remarks(collector: _Collector, formats: Mapping[str, int]) -> Iterator[str]:
    """What was recognized in the rows of a file; nothing for plain prompts."""
    if formats.keys() != {OWN}:
        yield "read as " + ", ".join(f"{name} {count}" for name, count in formats.items())
    if collector.responses or collector.unusable:
        bad = ", ".join(f"{reason} {count}" for reason, count in collector.unusable.most_common())
        yield f"the rows bring {plural(collector.responses, 'response')}" + (
            f"; {collector.unusable.total()} more cannot be used and are dropped ({bad})" if bad else ""
        )
        if collector.repeated:
            yield (
                f"{plural(collector.repeated, 'row')} with the image and question of an earlier row; "
                "their responses are added to its prompt"
            )


def _with_responses(prompts: PromptSource, indices: Sequence[int], source: str) -> list[PromptRef]:
    """The prompts with some indices, with the responses that their rows bring.

    Raises:
        UserError: the file has changed since the prompts were read.
    """
    refs = prompts.take(indices)
    given = prompts.given.filter(pc.is_in(prompts.given["prompt"], pa.array(indices, pa.int64())))
    prompt_of = dict(zip(given["row"].to_pylist(), given["prompt"].to_pylist(), strict=True))
    if not prompt_of:
        return refs
    questions = dict(zip(indices, (ref.question for ref in refs), strict=True))
    responses: dict[int, tuple[GivenResponse, ...]] = dict.fromkeys(indices, ())
    last = max(prompt_of)
    for number, row in row_files.read_rows(_file_of(source), TEXT_COLUMNS, invalid="keep"):
        if number in prompt_of:
            fields = row_fields(row) if isinstance(row, dict) else None
            if fields is None or fields.question != questions[prompt_of[number]]:
                raise UserError(
                    f"prompts.source {redacted(source)} row {number} has changed since the run began to read it; "
                    "run the command again with a file that stays as it is"
                )
            responses[prompt_of[number]] += fields.responses
        if number >= last:
            break
    return [replace(ref, responses=responses[index]) for index, ref in zip(indices, refs, strict=True)]


def _with_stored_images(prompt_refs: Sequence[PromptRef], source: str, ledger: Ledger) -> list[PromptRef]:
    """Prompts whose images are files: an image inside a row is stored in the ledger, unless it is there already."""
    embedded = {ref.image.removeprefix(EMBEDDED) for ref in prompt_refs if ref.image.startswith(EMBEDDED)}
    names = {sha256: row_files.image_file(sha256) for sha256 in sorted(embedded)}
    found = ledger.fs.get_file_info([ledger.path(name) for name in names.values()]) if names else []
    missing = {sha256 for sha256, info in zip(names, found, strict=True) if info.size is None}
    if missing:
        rows = row_files.read_rows(_file_of(source), IMAGE_COLUMNS, invalid="keep")
        contents = (content for _, row in rows if (content := embedded_content(row)) is not None)
        hashed = ((sha256_of(content), content) for content in contents)
        row_files.store_images(((sha256, content) for sha256, content in hashed if sha256 in missing), ledger)
    return [
        replace(ref, image=ledger.location(names[ref.image.removeprefix(EMBEDDED)]))
        if ref.image.startswith(EMBEDDED)
        else ref
        for ref in prompt_refs
    ]


def _file_of(source: str) -> str:
    """Path or URI of a source that is a file."""
    return source if is_remote(source) else str(_path_of(source))


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as "2 rows"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _scenes(seed: int, round_: int, count: int, ledger: Ledger) -> Iterator[PromptRef]:
    from vlrm_ray.scenes.images import store_image
    from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
    from vlrm_ray.scenes.world import ROUND_WORLD

    first = 100 * _ROUND_SEEDS + (seed * 1000 + round_) * _ROUND_SEEDS
    for index in range(count):
        scene = ROUND_WORLD.sample(first + index)
        exchange = any_exchange(scene, random.Random(digest("ask", seed, round_, index)), ROUND_KINDS)
        yield PromptRef(store_image(scene, ledger), exchange.question)
