"""Prompts from the rows of a file: the row's image, question and given responses, or why the row cannot be used."""

import os
from typing import Any

from vlrm_ray.errors import BadImage
from vlrm_ray.ids import sha256_of
from vlrm_ray.store import row_files
from vlrm_ray.store.filesystem import below, beside, is_remote
from vlrm_ray.store.images import is_uri
from vlrm_ray.store.row_formats import (
    IMAGE_COLUMNS,
    MAX_CHARACTERS,
    OWN,
    TEXT_COLUMNS,
    is_valid_text,
    printable,
    row_fields,
)
from vlrm_ray.types import PromptRef

EMBEDDED = "embedded:"
"""Start of the image of a prompt whose image file is inside its row; the sha256 of the file follows."""
COLUMNS = (*IMAGE_COLUMNS, *TEXT_COLUMNS)
"""Columns that are read."""
NO_RESPONSE = "response_not_given"
"""Reason of a row without responses where nothing else gives it some."""
_EXPECTED_ROW = "the strings 'image' and 'question'"
_EXPECTED = {
    "several_images": "one image",
    "image_undecodable": "an image in the data: URI",
    "image_path_not_text": "a path in UTF-8, without lone surrogates and NUL characters",
    "question_with_invalid_characters": "a question in UTF-8, without lone surrogates and NUL characters",
    "question_too_long": f"a question of at most {MAX_CHARACTERS:,} characters",
    "several_turns": "one question and at most one answer",
    "responses_not_a_list": "a list in 'responses', of texts or of {text, source}",
    "completions_not_a_list": "a list in 'completions', of {response, model}",
    "messages_not_a_list": "a list of messages",
    "message_not_an_object": "messages {role, content} or {from, value}",
    NO_RESPONSE: "at least one response, such as 'responses': ['There is a dog.']",
}
"""What a row should have, by its problem."""


def prompt_of_row(row: Any, file: str, images: str = "") -> tuple[PromptRef, str]:
    """The prompt of a row, and the name of the row's format.

    Args:
        row: the row, not validated.
        file: path or URI of its file.
        images: folder or URI that relative image paths start at; "" means the folder of the file.
    """
    if not isinstance(row, dict):
        return PromptRef("", printable(row), "row_not_an_object"), OWN
    fields = row_fields(row)
    image, problem = "", ""
    try:
        image = _image_of(fields.image, file, images)
    except (ValueError, BadImage) as error:
        problem = str(error)
    problem = fields.problem or question_problem(fields.question) or problem
    question = printable(fields.question)
    if problem:
        return PromptRef(printable(image), question[:MAX_CHARACTERS], problem), fields.format
    return PromptRef(image, question, "", fields.responses), fields.format


def embedded_content(row: Any) -> bytes | None:
    """Content of the image that is inside a row; None if there is none."""
    try:
        image = row_files.image_reference(row_fields(row).image)
        return image if isinstance(image, bytes) else row_files.embedded_image(image)
    except (AttributeError, ValueError, BadImage):  # these rows have no image
        return None


def _image_of(value: Any, file: str, images: str) -> str:
    """Path, URI or `EMBEDDED` reference of a row's image; raises ValueError or BadImage with the problem."""
    image = row_files.image_reference(value)
    if isinstance(image, bytes):
        return f"{EMBEDDED}{sha256_of(image)}"
    if not is_valid_text(image):
        raise ValueError("image_path_not_text")
    folder = images or ("" if is_remote(file) else os.path.dirname(file))
    content = None if _is_local_file(image, folder, file) else row_files.embedded_image(image)
    if content is not None:
        return f"{EMBEDDED}{sha256_of(content)}"
    if is_uri(image) or os.path.isabs(image):
        return image
    if is_remote(images):
        return below(images, image)
    if is_remote(file) and not images:
        return beside(file, image)
    return os.path.realpath(os.path.join(folder, image))


def _is_local_file(image: str, folder: str, file: str) -> bool:
    """Whether a text that may be base64 is the path of a file all the same; other texts are not looked up."""
    if not row_files.is_base64(image) or is_remote(folder or file):
        return False
    return os.path.isfile(os.path.join(folder, image))  # False if it is too long for a path


def question_problem(question: Any) -> str:
    """Why a question cannot be used; "" if it can."""
    if question is None or question == "":
        return "question_missing"
    if not isinstance(question, str):
        return "question_not_text"
    if not question.strip():
        return "question_missing"
    if len(question) > MAX_CHARACTERS:
        return "question_too_long"
    return "" if is_valid_text(question) else "question_with_invalid_characters"


def explain(problem: str, row: Any) -> str:
    """What was expected in a row, and what was found."""
    found = _cut(repr(row), 80)
    lacking = isinstance(row, dict) and not (row.keys() & set(TEXT_COLUMNS) and row.keys() & set(IMAGE_COLUMNS))
    if isinstance(row, dict) and (lacking or problem == NO_RESPONSE):
        found = _cut(f"the columns {', '.join(map(repr, row))}", 200)
    return f"expected {_EXPECTED.get(problem, _EXPECTED_ROW)}, got {found}"


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"
