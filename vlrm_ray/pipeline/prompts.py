"""Prompt sources: the embedded scenes, a file of rows, or a folder of images; local, or in an object store by URI.

A source is read row by row, and kept as columns. A row that cannot be used, for example without a question, becomes a
prompt with a `problem`: the round quarantines it and counts it. Responses inside rows are read again by the rounds that use
their prompts, so that the source takes little memory.

Images inside rows are most of a file, so all of them are read twice in a run, however often it starts: first for their hashes,
which decide what the prompts are and in which order the rounds take them (`prompt_index.py` keeps that with the run); then by
the first round, which stores those that the run uses, by content hash, in `images/` of the run or the cache.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from vlrm_ray.config import Config
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.ids import digest, seed_of, sha256_of
from vlrm_ray.pipeline import prompt_index
from vlrm_ray.pipeline.prompt_rows import (
    COLUMNS,
    EMBEDDED,
    embedded_content,
    explain,
    prompt_of_row,
    question_problem,
)
from vlrm_ray.pipeline.prompt_source import Collector, PromptSource
from vlrm_ray.store import row_files
from vlrm_ray.store.decoding import FORMATS, SUFFIXES
from vlrm_ray.store.filesystem import below, check_remote, file_uri_path, is_remote, joined, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.patience import impatient, patiently
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
_MOST_KINDS = 8
"""Largest number of kinds of ignored files that a message lists."""

T = TypeVar("T")


def prompts_of_round(config: Config, round_: int, ledger: Ledger) -> list[PromptRef]:
    """The prompts of a round, sorted so that those about the same image are adjacent.

    The order of a file or folder is shuffled once with the run's seed; each round takes the next prompts, as many as
    `prompts.per_round` says, and starts over at the end. The prompts of an image come in succession, and the images of a
    folder are spread over the round, so that any part of it tells what share of all images cannot be used.

    Args:
        config: configuration of the run.
        round_: number of the round; 1 is the first.
        ledger: stores the images of rendered scenes, and those inside rows.

    Raises:
        UserError: if the source does not exist or cannot be read.
    """
    source, count = config.prompts.source, config.prompts.in_round(round_)
    if source == SCENES:
        return list(_scenes(config.seed, round_, count, ledger))
    prompts = source_of(config)
    order = list(range(len(prompts)))
    random.Random(seed_of("prompts", config.seed)).shuffle(order)
    first, end = config.prompts.until_round(round_ - 1), config.prompts.until_round(config.most_rounds)
    indices = [order[i % len(order)] for i in range(first, first + min(count, len(order)))]
    later = [order[i % len(order)] for i in range(first + len(indices), min(end, first + len(order)))]
    taken = _with_responses(prompts, indices, source)
    images = _with_stored_images(prompts, indices, later, source, ledger)
    places = {ref.image: place for place, ref in reversed([*enumerate(taken)])}
    taken.sort(key=lambda ref: (places[ref.image], ref.question))
    return [replace(ref, image=images.get(ref.image, ref.image)) for ref in taken]


def source_of(config: Config) -> PromptSource:
    """The prompts of a run's source. Raises UserError as `read_source`."""
    return read_source(config.prompts.source, config.prompts.question, joined(config.folder, config.name))


@lru_cache(maxsize=2)
def read_source(source: str, question: str, run: str = "") -> PromptSource:
    """Read the prompts of a source.

    Args:
        source: path or URI of a folder of images; or of a file that `vlrm_ray.store.row_files.read_rows` reads, with rows
            in one of the formats of `vlrm_ray.store.row_formats`.
        question: question about each image of a folder.
        run: path or URI of the folder of a run that may have stored the prompts; see `vlrm_ray.pipeline.prompt_index`.

    Raises:
        UserError: if the source does not exist, cannot be read or holds no usable prompt.
    """
    if is_remote(source):
        return _read_remote(source, question, run)
    path = _path_of(source)
    if path.is_dir() and source:
        return _read_folder(_local_files(path), source, question)
    if path.is_file():
        key = prompt_index.key_of(source, list_source(str(path)))
        return _stored(key, run) or _read_file(str(path), source, key)
    raise UserError(
        f"prompts.source {printable(source)} {'does not exist' if source else 'is empty'}; give 'scenes', a file of "
        "prompts (.jsonl, .json or .parquet) or a folder of images, by path or by a URI such as s3://..."
    )


def _read_remote(source: str, question: str, run: str) -> PromptSource:
    with _errors_named():
        check_remote(source)
        with impatient():  # often the first access to the storage, whose address may be wrong
            found = list_source(source)
    if "" in found.files:
        key = prompt_index.key_of(source, found)
        stored = _stored(key, run)
        with _errors_named():
            return stored or _read_file(source, source, key)
    names = sorted(found.files, key=lambda name: name.split("/"))
    return _read_folder(((name, below(source, name)) for name in names), source, question)


@contextmanager
def _errors_named() -> Iterator[None]:
    """Context manager: errors of a storage name `prompts.source`."""
    try:
        yield
    except StorageError as error:
        raise UserError(f"prompts.source: {error}") from None


def _stored(key: str, run: str) -> PromptSource | None:
    """The prompts that a run has stored under a key."""
    return prompt_index.load(run, key) if run else None


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
    collector, ignored = Collector(), Counter[str]()
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


def _read_file(file: str, source: str, key: str) -> PromptSource:
    """The prompts of a file, given by its path or URI, and the key under which a run is to store them if they have images."""
    collector = Collector()
    problems: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    example, shown = "", redacted(source)

    def read(number: int, row: Any) -> tuple[int, PromptRef, str, str]:
        ref, form = prompt_of_row(row, file)
        return number, ref, form, f"row {number}: {explain(ref.problem, row)}" if ref.problem else ""

    for number, ref, form, why in row_files.mapped_rows(file, COLUMNS, read, invalid="keep"):
        collector.add(ref, number)
        formats[form] += 1
        if ref.problem:
            problems[ref.problem] += 1
            example = example or f"{redacted(file)} {why}"
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
    prompts = collector.source(remarks)
    return replace(prompts, unsaved=key) if prompt_index.has_images(prompts) else prompts


def _remarks(collector: Collector, formats: Mapping[str, int]) -> Iterator[str]:
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

    def read(number: int, row: Any) -> tuple[int, tuple[GivenResponse, ...]]:
        fields = row_fields(row) if isinstance(row, dict) else None
        if fields is None or fields.question != questions[prompt_of[number]]:
            raise _changed(source, number)
        return prompt_of[number], fields.responses

    for index, given_responses in _rows(source, TEXT_COLUMNS, read, prompt_of):
        responses[index] += given_responses
    return [replace(ref, responses=responses[index]) for index, ref in zip(indices, refs, strict=True)]


def _with_stored_images(
    prompts: PromptSource, indices: Sequence[int], later: Sequence[int], source: str, ledger: Ledger
) -> dict[str, str]:
    """Store the images inside the rows of some prompts in the ledger; returns their locations by `EMBEDDED` reference.

    If any is missing there, those of prompts that are used later are stored, too: the prompts of a round are spread over
    the file, so that each round would read nearly all of it.
    """
    images = [image for image in prompts.images(indices) if image.startswith(EMBEDDED)]
    names = {image: row_files.image_file(image.removeprefix(EMBEDDED)) for image in images}
    if ledger.missing(names.values()):
        _store_images(prompts, [*indices, *later], source, ledger)
    return {image: ledger.location(name) for image, name in names.items()}


def _store_images(prompts: PromptSource, indices: Sequence[int], source: str, ledger: Ledger) -> None:
    """Store those of the images inside the rows of some prompts that the ledger does not have."""
    row_of = {
        row_files.image_file(image.removeprefix(EMBEDDED)): row
        for image, row in prompts.images(indices).items()
        if image.startswith(EMBEDDED)
    }
    name_of_row = {row_of[name]: name for name in ledger.missing(row_of)}
    with row_files.ImageWriter(ledger) as writer:

        def store(number: int, row: Any) -> None:
            content, name = embedded_content(row), name_of_row[number]
            sha256 = "" if content is None else sha256_of(content)
            if content is None or row_files.image_file(sha256) != name:
                raise _changed(source, number)
            writer.put(sha256, content)

        if name_of_row:
            _rows(source, IMAGE_COLUMNS, store, name_of_row)


def _rows(source: str, columns: Sequence[str], work: Callable[[int, Any], T], rows: Collection[int]) -> list[T]:
    """What a function makes of some rows of a file. Raises UserError if it has fewer rows than before."""
    file = _file_of(source)
    made = patiently(lambda: list(row_files.mapped_rows(file, columns, work, invalid="keep", rows=rows)), file)
    if len(made) < len(rows):
        raise _changed(source, max(rows))
    return made


def _changed(source: str, row: int) -> UserError:
    return UserError(
        f"prompts.source {redacted(source)} row {row} has changed since the run began to read it; run the command again with "
        "a file that stays as it is"
    )


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
