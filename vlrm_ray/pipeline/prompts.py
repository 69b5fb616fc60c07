"""Prompt sources: the embedded scenes, a file of rows, or a folder of images.

A row that cannot be used, for example without a question, becomes a prompt with a `problem`: the round quarantines it
and counts it. Images inside rows are stored once, by content hash, in `images/` of the run or the cache.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from vlrm_ray.config import Config
from vlrm_ray.engines import REFUSED, TOO_LONG
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.ids import digest, seed_of, sha256_of
from vlrm_ray.store import row_files
from vlrm_ray.store.decoding import FORMATS, SUFFIXES
from vlrm_ray.store.images import file_uri_path, is_uri
from vlrm_ray.store.ledger import Ledger
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
_EXPECTED_ROW = "the strings 'image' and 'question'"
_MOST_KINDS = 8
"""Largest number of kinds of ignored files that a message lists."""


@dataclass(frozen=True)
class PromptSource:
    """The prompts of a source.

    Attributes:
        prompt_refs: the prompts in the order of the source, each once.
        remarks: what the user should know about it, one sentence each: files and rows that are left out.
    """

    prompt_refs: tuple[PromptRef, ...]
    remarks: tuple[str, ...] = ()


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
    prompt_refs = list(read_prompts(source, config.prompts.question))
    random.Random(seed_of("prompts", config.seed)).shuffle(prompt_refs)
    first = (round_ - 1) * count
    taken = [prompt_refs[i % len(prompt_refs)] for i in range(first, first + min(count, len(prompt_refs)))]
    return _with_stored_images(sorted(taken, key=lambda ref: (ref.image, ref.question)), source, ledger)


def read_prompts(source: str, question: str) -> tuple[PromptRef, ...]:
    """The prompts of a source, without duplicates; see `read_source`."""
    return read_source(source, question).prompt_refs


@lru_cache(maxsize=2)
def read_source(source: str, question: str) -> PromptSource:
    """Read the prompts of a source.

    Args:
        source: a folder of images; or a file of rows with the columns `image` (or `images`, a list with one image)
            and `question`, in a format that `vlrm_ray.store.row_files.read_rows` reads.
        question: question about each image of a folder.

    Raises:
        UserError: if the source does not exist, cannot be read or holds no usable prompt.
    """
    path = _path_of(source)
    if path.is_dir() and source:
        return _read_folder(path, source, question)
    if path.is_file():
        return _read_file(path, source)
    where = "is not a local file" if is_uri(source) else "does not exist" if source else "is empty"
    raise UserError(
        f"prompts.source {_printable(source)} {where}; give 'scenes', a local file of prompts (.jsonl, .json or "
        ".parquet), or a folder of images"
    )


def _path_of(source: str) -> Path:
    """Path of a source, which may be a file:// URI."""
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
        return "download the images and give their paths, then run the command again"
    return f"give readable images ({', '.join(FORMATS)}) and questions, then run the command again"


def _read_folder(folder: Path, source: str, question: str) -> PromptSource:
    if problem := _question_problem(question):
        raise UserError(f"prompts.question {_printable(question)!r} cannot be used ({problem}); give a question")
    images, ignored = [], Counter[str]()
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        if kind := _why_ignored(path):
            ignored[kind] += 1
        else:
            images.append(os.path.realpath(path))
    kinds = [f"{count} {kind}" for kind, count in sorted(ignored.items(), key=lambda item: (-item[1], item[0]))]
    if len(kinds) > _MOST_KINDS:
        kinds[_MOST_KINDS:] = [_plural(len(kinds) - _MOST_KINDS, "other kind")]
    remark = f"ignored {_plural(ignored.total(), 'file')}: {', '.join(kinds)}"
    if not images:
        raise UserError(
            f"prompts.source: folder {source} holds no images ({', '.join(SUFFIXES)}){'; ' + remark if ignored else ''}; "
            "add some, or set prompts.source to another source"
        )
    prompt_refs = [
        PromptRef(image, question) if _is_text(image) else PromptRef(_printable(image), question, "image_path_not_text")
        for image in images
    ]
    remarks = (f"prompts.source {source}: {_plural(len(images), 'image')}, {remark}",) if ignored else ()
    return PromptSource(tuple(dict.fromkeys(prompt_refs)), remarks)


def _why_ignored(path: Path) -> str:
    """Kind of a file that is not taken as an image, with the reason; "" if it is taken."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return "hidden"
    known = Image.registered_extensions().get(suffix)
    if suffix in SUFFIXES or known in FORMATS:
        return ""
    why = "not supported" if known or suffix in _OTHER_IMAGES else "not an image"
    return f"{_printable(suffix) or 'without a suffix'} ({why})"


def _read_file(path: Path, source: str) -> PromptSource:
    prompt_refs: list[PromptRef] = []
    problems: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for number, row in row_files.read_rows(path, _COLUMNS):
        ref = _prompt_ref(row, path)
        prompt_refs.append(ref)
        if ref.problem:
            problems[ref.problem] += 1
            if ref.problem not in examples:
                examples[ref.problem] = f"{path} row {number}: {_explain(ref.problem, row)}"
    if not prompt_refs:
        raise UserError(f"prompts.source: {source} holds no prompts; add some, or set prompts.source to another source")
    counts = ", ".join(f"{problem} {count}" for problem, count in problems.most_common())
    example = next(iter(examples.values()), "")
    if problems.total() == len(prompt_refs):
        raise UserError(f"no row of prompts.source {source} can be used ({counts}); {example}; correct the rows")
    remark = (
        f"prompts.source {source}: {problems.total()} of {len(prompt_refs)} rows cannot be used and are quarantined"
    )
    remarks = (f"{remark} ({counts}); {example}",) if problems else ()
    return PromptSource(tuple(dict.fromkeys(prompt_refs)), remarks)


def _prompt_ref(row: Any, path: Path) -> PromptRef:
    """Convert a row; a relative image path is resolved against the file's folder."""
    if not isinstance(row, dict):
        return PromptRef("", _printable(row), "row_not_an_object")
    question, image, problem = row.get("question"), "", ""
    try:
        image = _image_of(_image_value(row), path.parent)
    except (ValueError, BadImage) as error:
        problem = str(error)
    problem = _question_problem(question) or problem
    return PromptRef(_printable(image), _printable(question), problem)


def _image_value(row: dict[str, Any]) -> Any:
    return row["images"] if row.get("image") is None and "images" in row else row.get("image")


def _image_of(value: Any, folder: Path) -> str:
    """Path, URI or `EMBEDDED` reference of a row's image; raises ValueError or BadImage with the problem."""
    image = row_files.image_reference(value)
    if isinstance(image, bytes):
        return f"{EMBEDDED}{sha256_of(image)}"
    if not _is_text(image):
        raise ValueError("image_path_not_text")
    content = None if _is_local_file(image, folder) else row_files.embedded_image(image)
    if content is not None:
        return f"{EMBEDDED}{sha256_of(content)}"
    if is_uri(image) or Path(image).is_absolute():
        return image
    return os.path.realpath(folder / image)


def _is_local_file(image: str, folder: Path) -> bool:
    """Whether a text that may be base64 is the path of a file all the same; other texts are not looked up."""
    try:
        return row_files.is_base64(image) and (folder / image).is_file()
    except OSError:  # too long for a path
        return False


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
        "image_path_not_text": "a path without lone surrogates and NUL characters",
        "question_with_invalid_characters": "a question without lone surrogates and NUL characters",
    }
    return f"expected {expected.get(problem, _EXPECTED_ROW)}, got {found}"


def _with_stored_images(prompt_refs: Sequence[PromptRef], source: str, ledger: Ledger) -> list[PromptRef]:
    """Prompts whose images are files: an image inside a row is stored in the ledger, unless it is there already."""
    embedded = {ref.image.removeprefix(EMBEDDED) for ref in prompt_refs if ref.image.startswith(EMBEDDED)}
    names = {sha256: row_files.image_file(sha256) for sha256 in embedded}
    missing = {sha256 for sha256, name in names.items() if ledger.fs.get_file_info(ledger.path(name)).size is None}
    if missing:
        for content in _embedded_images(_path_of(source)):
            if sha256_of(content) in missing:
                row_files.store_image_bytes(content, ledger)
    return [
        replace(ref, image=ledger.location(names[ref.image.removeprefix(EMBEDDED)]))
        if ref.image.startswith(EMBEDDED)
        else ref
        for ref in prompt_refs
    ]


def _embedded_images(path: Path) -> Iterator[bytes]:
    for _, row in row_files.read_rows(path, _COLUMNS):
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
