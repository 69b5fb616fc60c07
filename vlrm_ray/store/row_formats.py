"""The fields of a row in the formats of preference and instruction data: image, question and the responses it brings.

    format                       recognized by                            responses, with their source
    own                          question, image                          responses, response
    RLAIF-V                      question, chosen, rejected               "chosen", "rejected"
    TRL                          prompt (text or messages)                "chosen", "rejected", "completion"
    TRL, implicit prompt         chosen, rejected (messages)              "chosen", "rejected"
    ShareGPT (LLaMA-Factory)     conversations or messages                "chosen", "rejected", "gpt", "assistant"
    VLFeedback                   prompt, completions                      the name of the model

A column that is null counts as absent, because a Parquet row has all columns of its file. What a response is called,
such as "chosen", is kept as its source, and is no label: verification decides what is chosen.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrm_ray.types import GivenResponse

OWN = "image, question"
"""Format of rows that were written for this program."""
IMAGE_COLUMNS = ("image", "images", "img_path", "image_path")
"""Columns that hold the image; the first one that is not null is used."""
TEXT_COLUMNS = (
    "question", "responses", "response", "prompt", "chosen", "rejected", "completion", "completions", "conversations",
    "messages",
)  # fmt: skip
"""Columns that hold the question and the responses."""
MAX_CHARACTERS = 100_000
"""Longest accepted question or response."""
_SIDES = ("chosen", "rejected")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_PLACEHOLDER = re.compile(r"\n?<image>\n?")
"""What stands for the image in a text, with a line break that belongs to it."""
_MAX_SOURCE = 100
"""Characters of a source that are kept."""


@dataclass(frozen=True)
class RowFields:
    """What a row says.

    Attributes:
        format: name of the format, for messages.
        image: the image in one of the forms of `row_files.image_reference`, not validated.
        question: the question, not validated.
        responses: the responses; each that cannot be used has a problem.
        problem: why the row cannot be used; "" if it can, as far as is known without its image and question.
    """

    format: str
    image: Any
    question: Any
    responses: tuple[GivenResponse, ...] = ()
    problem: str = ""


class _BadRow(ValueError):
    """The message is the problem of the row."""


def row_fields(row: Mapping[str, Any]) -> RowFields:
    """The fields of a row in any of the formats; a row in none of them is taken as one of the own format."""
    name, reader = _recognized(row)
    image = next((row[column] for column in IMAGE_COLUMNS if row.get(column) is not None), None)
    try:
        question, responses = reader(row)
        responses = (*responses, *(_own_responses(row) if reader is not _own else ()))
    except _BadRow as error:
        return RowFields(name, image, _question_of(row), (), str(error))
    return RowFields(name, image, question, responses)


def is_valid_text(text: str) -> bool:
    """Whether a text can be stored and encoded: without lone surrogates and NUL characters."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def printable(value: Any) -> str:
    """A value as text that can be stored; long values of other types are cut."""
    text = value if isinstance(value, str) else "" if value is None else str(value)[:200]
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _recognized(row: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and reader of a row's format."""
    present = {column for column in TEXT_COLUMNS if row.get(column) is not None}
    both = present.issuperset(_SIDES)
    if "question" in present:
        return ("RLAIF-V (question, chosen, rejected)", _rlaif_v) if both else (OWN, _own)
    for column in ("conversations", "messages"):
        if column in present:
            return (f"ShareGPT ({column}{', chosen, rejected' if both else ''})", _sharegpt)
    if {"prompt", "completions"} <= present:
        return "VLFeedback (prompt, completions)", _vlfeedback
    if "prompt" in present:
        columns = ", ".join(["prompt", *(c for c in (*_SIDES, "completion") if c in present)])
        return f"TRL ({columns})", _trl
    if both:
        return "TRL (chosen, rejected)", _trl_implicit
    return OWN, _own


def _own(row: Mapping[str, Any]) -> tuple[Any, tuple[GivenResponse, ...]]:
    return row.get("question"), _own_responses(row)


def _own_responses(row: Mapping[str, Any]) -> tuple[GivenResponse, ...]:
    """The columns `responses`, a list of texts or of {text, source}, and `response`, one text."""
    items, found = row.get("responses"), []
    if items is not None:
        for item in _items(items, "responses_not_a_list"):
            if isinstance(item, Mapping):
                found.append(_response(item.get("text"), item.get("source")))
            else:
                found.append(_response(item))
    if row.get("response") is not None:
        found.append(_response(row["response"]))
    return tuple(found)


def _rlaif_v(row: Mapping[str, Any]) -> tuple[Any, tuple[GivenResponse, ...]]:
    return row["question"], _sides(row)


def _vlfeedback(row: Mapping[str, Any]) -> tuple[Any, tuple[GivenResponse, ...]]:
    items = _items(row["completions"], "completions_not_a_list")
    responses = [
        _response(item.get("response"), item.get("model")) if isinstance(item, Mapping) else _response(item)
        for item in items
    ]
    return _without_placeholder(row["prompt"]), tuple(responses)


def _trl(row: Mapping[str, Any]) -> tuple[Any, tuple[GivenResponse, ...]]:
    prompt = row["prompt"]
    question = _only_question(_turns(prompt)) if _is_list(prompt) else _without_placeholder(prompt)
    completion = row.get("completion")
    responses = [] if completion is None else [_response(_last_answer(completion), "completion")]
    return question, (*_sides(row), *responses)


def _trl_implicit(row: Mapping[str, Any]) -> tuple[Any, tuple[GivenResponse, ...]]:
    chosen = _turns(row["chosen"]) if _is_list(row["chosen"]) else []
    return _only_question(chosen[:-1]), _sides(row)


def _sharegpt(row: Mapping[str, Any]) -> tuple[Any, tuple[GivenResponse, ...]]:
    turns = _turns(row["conversations"] if row.get("conversations") is not None else row["messages"])
    answers: tuple[GivenResponse, ...] = ()
    if turns and turns[-1].role == "assistant":
        answers = (_response(turns[-1].text, turns[-1].name),)
        turns = turns[:-1]
    return _only_question(turns), answers + _sides(row)


def _sides(row: Mapping[str, Any]) -> tuple[GivenResponse, ...]:
    """The columns `chosen` and `rejected`, each a text, a message or a list of messages."""
    return tuple(_response(_last_answer(row[side]), side) for side in _SIDES if row.get(side) is not None)


@dataclass(frozen=True)
class _Turn:
    """A message: its role as the data name it and as one of user, assistant and system, and its text."""

    name: str
    role: str
    text: Any


def _turns(messages: Any) -> list[_Turn]:
    """The messages {role, content} or {from, value} of a conversation, without those of the system."""
    if not _is_list(messages):
        raise _BadRow("messages_not_a_list")
    turns = [_turn(message) for message in messages]
    return [turn for turn in turns if turn.role != "system"]


def _turn(message: Any) -> _Turn:
    if not isinstance(message, Mapping):
        raise _BadRow("message_not_an_object")
    name = message.get("role") or message.get("from")
    content = message["content"] if message.get("content") is not None else message.get("value")
    return _Turn(str(name), _ROLES.get(str(name), "other"), _without_placeholder(_content_text(content)))


def _content_text(content: Any) -> Any:
    """Text of a message's content, which may be a list of parts {type, text}; images among them are left out."""
    if not _is_list(content):
        return content
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _only_question(turns: Sequence[_Turn]) -> Any:
    """Text of the only message, which is the user's."""
    if not turns:
        return None
    if len(turns) > 1 or turns[0].role != "user":
        raise _BadRow("several_turns")
    return turns[0].text


def _last_answer(value: Any) -> Any:
    """The response in a text, a message, or the last of a list of messages."""
    if isinstance(value, Mapping):
        return _turn(value).text
    if not _is_list(value):
        return value
    turns = _turns(value)
    return turns[-1].text if turns and turns[-1].role == "assistant" else None


def _question_of(row: Mapping[str, Any]) -> str:
    """Some text that identifies a row that cannot be used."""
    value = next((row[column] for column in TEXT_COLUMNS if isinstance(row.get(column), str)), "")
    return printable(value)[:200]


def _response(text: Any, source: Any = None) -> GivenResponse:
    name = printable(source)[:_MAX_SOURCE]
    problem = ""
    if text is None or text == "" or (isinstance(text, str) and not text.strip()):
        problem = "given_response_empty"
    elif not isinstance(text, str):
        problem = "given_response_not_text"
    elif len(text) > MAX_CHARACTERS:
        problem = "given_response_too_long"
    elif not is_valid_text(text):
        problem = "given_response_with_invalid_characters"
    return GivenResponse("" if problem else text, name, problem)


def _items(value: Any, problem: str) -> list[Any]:
    """The items of a list, or of the struct of lists that `datasets` stores for a sequence of structs."""
    if _is_list(value):
        return list(value)
    if isinstance(value, Mapping):
        columns = {name: list(items) for name, items in value.items() if _is_list(items)}
        if columns and len({len(items) for items in columns.values()}) == 1:
            return [dict(zip(columns, items, strict=True)) for items in zip(*columns.values(), strict=True)]
    raise _BadRow(problem)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _without_placeholder(text: Any) -> Any:
    """A text without the mark <image>; other values as they are."""
    if not isinstance(text, str) or "<image>" not in text:
        return text
    return _PLACEHOLDER.sub(" ", text).strip()
