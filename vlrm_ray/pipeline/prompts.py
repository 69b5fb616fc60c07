"""Prompt sources: the embedded scenes, a file of rows, or a folder of images; local, or in an object store by URI.

A source is read row by row, and kept as columns. A row that cannot be used, for example without a question, becomes a prompt with a `problem`: the round quarantines it
and counts it. Images inside rows are stored once, by content hash, in `images/` of the run or the cache.
"""

import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from PIL import Image

from vlrm_ray.config import Config
from vlrm_ray.engines import REFUSED, TOO_LONG
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.ids import digest, seed_of, sha256_of
from vlrm_ray.store import row_files
from vlrm_ray.store.decoding import FORMATS, SUFFIXES
from vlrm_ray.store.filesystem import below, beside, check_remote, file_uri_path, is_remote, redacted
from vlrm_ray.store.images import is_uri
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.sources import list_source
from vlrm_ray.types import PromptRef

SCENES = "scenes"
"""Value of `prompts.source` that selects the embedded scenes."""
EMBEDDED = "embedded:"
"""Start of the image of a prompt whose image file is inside its row; the sha256 of the file follows."""
_ROUND_SEEDS = 1_000_000
"""A round's scene seeds start at a multiple of this number; pre-training and ScenesBench use other seeds."""
_COLUMNS = ("image", "images", "question")
_OTHER_IMAGES = (
    ".heic", ".heif", ".jxl", ".svg", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".jp2",
)  # fmt: skip
"""Suffixes of image formats that neither Pillow nor this program opens."""
_SCHEMA = pa.schema({"image": pa.string(), "question": pa.string(), "problem": pa.string()})
_BATCH = 4096
"""Prompts that are Python objects at a time."""
_EXPECTED_ROW = "the strings 'image' and 'question'"
_MOST_KINDS = 8
"""Largest number of kinds of ignored files that a message lists."""


@dataclass(frozen=True)
class PromptSource:
    """The prompts of a source.

    Attributes:
        table: the prompts in the order of the source, each once, as columns `image`, `question` and `problem`.
        remarks: what the user should know about it, one sentence each: files and rows that are left out.
    """

    table: pa.Table
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[PromptRef]:
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            yield from _refs(batch)

    def take(self, indices: Sequence[int]) -> list[PromptRef]:
        """The prompts with some indices, in their order."""
        return list(_refs(self.table.take(pa.array(indices, pa.int64()))))

    @property
    def prompt_refs(self) -> tuple[PromptRef, ...]:
        """All prompts."""
        return tuple(self)


def _refs(table: pa.Table | pa.RecordBatch) -> Iterator[PromptRef]:
    return (PromptRef(row["image"], row["question"], row["problem"]) for row in table.to_pylist())


class _Collector:
    """Collects prompts into columns, each prompt once."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: set[bytes] = set()
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[PromptRef] = []

    def add(self, ref: PromptRef) -> None:
        """Add a prompt, unless it is there already."""
        self.total += 1
        key = blake2b("\0".join((ref.image, ref.question, ref.problem)).encode(), digest_size=16).digest()
        if key not in self._seen:
            self._seen.add(key)
            self._pending.append(ref)
        if len(self._pending) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = {name: pa.array([getattr(r, name) for r in self._pending], pa.string()) for name in _SCHEMA.names}
        self._batches.append(pa.record_batch(columns, _SCHEMA))
        self._pending = []

    def table(self) -> pa.Table:
        """The collected prompts."""
        self._flush()
        return pa.Table.from_batches(self._batches, _SCHEMA)


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
    taken = prompts.take([order[i % len(order)] for i in range(first, first + min(count, len(order)))])
    return _with_stored_images(sorted(taken, key=lambda ref: (ref.image, ref.question)), source, ledger)


@lru_cache(maxsize=2)
def read_source(source: str, question: str) -> PromptSource:
    """Read the prompts of a source.

    Args:
        source: path or URI of a folder of images; or of a file of rows with the columns `image` (or `images`, a list
            with one image) and `question`, in a format that `vlrm_ray.store.row_files.read_rows` reads.
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
        f"prompts.source {_printable(source)} {'does not exist' if source else 'is empty'}; give 'scenes', a file of "
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


def remedy(reason: str) -> str:
    """What to do about prompts that are quarantined for a reason."""
    if reason == TOO_LONG:
        return "raise policy.engine.max_model_len or shorten the questions"
    if reason.startswith(REFUSED):
        return "check policy.model and policy.engine"
    if reason == "image_missing":
        return (
            "correct the image paths (a relative path starts at the prompt file's folder), then run the command again"
        )
    if reason == "image_url_not_fetched":
        return "list their hosts in prompts.allow_hosts, or download the images and give their paths"
    if reason.startswith("image_url_"):
        return "check the addresses and whether all nodes reach them, then run the command again"
    return f"give readable images ({', '.join(FORMATS)}) and questions, then run the command again"


def _read_folder(files: Iterable[tuple[str, str]], source: str, question: str) -> PromptSource:
    """The prompts of a folder, from the name and the path or URI of each file."""
    if problem := _question_problem(question):
        raise UserError(f"prompts.question {_printable(question)!r} cannot be used ({problem}); give a question")
    collector, ignored = _Collector(), Counter[str]()
    for name, image in files:
        if kind := _why_ignored(PurePosixPath(name)):
            ignored[kind] += 1
        elif _is_text(image):
            collector.add(PromptRef(image, question))
        else:
            collector.add(PromptRef(_printable(image), question, "image_path_not_text"))
    kinds = [f"{count} {kind}" for kind, count in sorted(ignored.items(), key=lambda item: (-item[1], item[0]))]
    if len(kinds) > _MOST_KINDS:
        kinds[_MOST_KINDS:] = [_plural(len(kinds) - _MOST_KINDS, "other kind")]
    remark = f"ignored {_plural(ignored.total(), 'file')}: {', '.join(kinds)}"
    shown = redacted(source)
    if not collector.total:
        raise UserError(
            f"prompts.source: folder {shown} holds no images ({', '.join(SUFFIXES)}){'; ' + remark if ignored else ''}; "
            "add some, or set prompts.source to another source"
        )
    remarks = (f"prompts.source {shown}: {_plural(collector.total, 'image')}, {remark}",) if ignored else ()
    return PromptSource(collector.table(), remarks)


def _why_ignored(path: PurePosixPath) -> str:
    """Kind of a file that is not taken as an image, with the reason; "" if it is taken."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return "hidden"
    known = Image.registered_extensions().get(suffix)
    if suffix in SUFFIXES or known in FORMATS:
        return ""
    why = "not supported" if known or suffix in _OTHER_IMAGES else "not an image"
    return f"{_printable(suffix) or 'without a suffix'} ({why})"


def _read_file(file: str, source: str) -> PromptSource:
    """The prompts of a file, given by its path or URI."""
    collector = _Collector()
    problems: Counter[str] = Counter()
    example, shown = "", redacted(source)
    for number, row in row_files.read_rows(file, _COLUMNS, invalid="keep"):
        ref = _prompt_ref(row, file)
        collector.add(ref)
        if ref.problem:
            problems[ref.problem] += 1
            example = example or f"{redacted(file)} row {number}: {_explain(ref.problem, row)}"
    if not collector.total:
        raise UserError(f"prompts.source: {shown} holds no prompts; add some, or set prompts.source to another source")
    counts = ", ".join(f"{problem} {count}" for problem, count in problems.most_common())
    if problems.total() == collector.total:
        raise UserError(f"no row of prompts.source {shown} can be used ({counts}); {example}; correct the rows")
    remark = f"prompts.source {shown}: {problems.total()} of {collector.total} rows cannot be used and are quarantined"
    remarks = (f"{remark} ({counts}); {example}",) if problems else ()
    return PromptSource(collector.table(), remarks)


def _prompt_ref(row: Any, file: str) -> PromptRef:
    """Convert a row; a relative image path is resolved against the folder of the file."""
    if not isinstance(row, dict):
        return PromptRef("", _printable(row), "row_not_an_object")
    question, image, problem = row.get("question"), "", ""
    try:
        image = _image_of(_image_value(row), file)
    except (ValueError, BadImage) as error:
        problem = str(error)
    problem = _question_problem(question) or problem
    return PromptRef(_printable(image), _printable(question), problem)


def _image_value(row: dict[str, Any]) -> Any:
    return row["images"] if row.get("image") is None and "images" in row else row.get("image")


def _image_of(value: Any, file: str) -> str:
    """Path, URI or `EMBEDDED` reference of a row's image; raises ValueError or BadImage with the problem."""
    image = row_files.image_reference(value)
    if isinstance(image, bytes):
        return f"{EMBEDDED}{sha256_of(image)}"
    if not _is_text(image):
        raise ValueError("image_path_not_text")
    content = None if _is_local_file(image, file) else row_files.embedded_image(image)
    if content is not None:
        return f"{EMBEDDED}{sha256_of(content)}"
    if is_uri(image) or os.path.isabs(image):
        return image
    return beside(file, image) if is_remote(file) else os.path.realpath(os.path.join(os.path.dirname(file), image))


def _is_local_file(image: str, file: str) -> bool:
    """Whether a text that may be base64 is the path of a file all the same; other texts are not looked up."""
    if not row_files.is_base64(image) or is_remote(file):
        return False
    return os.path.isfile(os.path.join(os.path.dirname(file), image))  # False if it is too long for a path


def _question_problem(question: Any) -> str:
    """Why a question cannot be used; "" if it can."""
    if question is None or question == "":
        return "question_missing"
    if not isinstance(question, str):
        return "question_not_text"
    if not question.strip():
        return "question_missing"
    return "" if _is_text(question) else "question_with_invalid_characters"


def _explain(problem: str, row: Any) -> str:
    """What was expected in a row, and what was found."""
    found = repr(row)[:80]
    if isinstance(row, dict) and not ("question" in row and row.keys() & {"image", "images"}):
        found = f"the columns {', '.join(map(repr, row))}"[:200]
    expected = {
        "several_images": "one image",
        "image_undecodable": "an image in the data: URI",
        "image_path_not_text": "a path in UTF-8, without lone surrogates and NUL characters",
        "question_with_invalid_characters": "a question in UTF-8, without lone surrogates and NUL characters",
    }
    return f"expected {expected.get(problem, _EXPECTED_ROW)}, got {found}"


def _with_stored_images(prompt_refs: Sequence[PromptRef], source: str, ledger: Ledger) -> list[PromptRef]:
    """Prompts whose images are files: an image inside a row is stored in the ledger, unless it is there already."""
    embedded = {ref.image.removeprefix(EMBEDDED) for ref in prompt_refs if ref.image.startswith(EMBEDDED)}
    names = {sha256: row_files.image_file(sha256) for sha256 in embedded}
    missing = {sha256 for sha256, name in names.items() if ledger.fs.get_file_info(ledger.path(name)).size is None}
    if missing:
        for content in _embedded_images(source if is_remote(source) else str(_path_of(source))):
            if sha256_of(content) in missing:
                row_files.store_image_bytes(content, ledger)
    return [
        replace(ref, image=ledger.location(names[ref.image.removeprefix(EMBEDDED)]))
        if ref.image.startswith(EMBEDDED)
        else ref
        for ref in prompt_refs
    ]


def _embedded_images(file: str) -> Iterator[bytes]:
    for _, row in row_files.read_rows(file, _COLUMNS, invalid="keep"):
        try:
            image = row_files.image_reference(_image_value(row))
            content = image if isinstance(image, bytes) else row_files.embedded_image(image)
        except (AttributeError, ValueError, BadImage):  # these rows have no image
            continue
        if content is not None:
            yield content


def _is_text(text: str) -> bool:
    """Whether a text can be stored and encoded: without lone surrogates and NUL characters."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _printable(value: Any) -> str:
    """A value as text that can be stored; long values are cut."""
    text = value if isinstance(value, str) else "" if value is None else str(value)[:200]
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _plural(count: int, noun: str) -> str:
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
