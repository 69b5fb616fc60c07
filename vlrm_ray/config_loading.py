"""Reads YAML files and overrides of a configuration into plain values, before they are validated, and explains what the
validation finds; finds the shipped models.

An override of a text key is taken as it stands, to its last character. The values of all other keys are YAML.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit
from urllib.request import url2pathname

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml import MarkedYAMLError, YAMLError

from vlrm_ray.errors import UserError, first_line

COMMAND_LINE = "the command line"
"""Where a value is from that no file has."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What the name of a run looks like."""
RENAMED_KEYS = {
    "experts.reader.finder": "experts.reader.detection_model",
    "experts.reader.reader": "experts.reader.recognition_model",
}
"""Keys of earlier releases, with their present names."""
REMOVED_KEYS = {
    f"cluster.stages.{stage}.gpus": "no data stage uses a GPU; delete the key"
    for stage in ("ingest", "generate", "verify", "critique", "commit")
} | {"train.balance": "weighting critiques by their wording showed no gain; delete the key"}
"""Keys of earlier releases that are gone, each with the reason and the remedy."""
KEYS_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "model_name_or_path": ("policy.model", "critic.model"),
    "model_name": ("policy.model", "critic.model"),
    "dataset": ("prompts.source",),
    "image_max_pixels": ("prompts.max_pixels",),
    "output_dir": ("folder",),
    "run_name": ("name",),
    "report_to": ("trackers",),
    "num_generations": ("policy.samples",),
    "max_new_tokens": ("policy.max_tokens", "critic.max_tokens"),
    "max_completion_length": ("policy.max_tokens", "critic.max_tokens"),
    "tensor_parallel_size": ("policy.engine.tensor_parallel", "critic.engine.tensor_parallel"),
    "gpu_memory_utilization": ("policy.engine.gpu_memory", "critic.engine.gpu_memory"),
    "learning_rate": ("train.lr",),
    "lr_scheduler_type": ("train.lr_scheduler",),
    "num_train_epochs": ("train.epochs",),
    "num_epochs": ("train.epochs",),
    "batch_size": ("train.batch",),
    "train_batch_size": ("train.batch",),
    "per_device_train_batch_size": ("train.batch",),
    "max_length": ("train.max_tokens",),
    "max_seq_length": ("train.max_tokens",),
    "cutoff_len": ("train.max_tokens",),
    "max_grad_norm": ("train.clip",),
    "gradient_checkpointing": ("train.checkpointing",),
    "torch_compile": ("train.compile",),
    "dataloader_num_workers": ("train.loader_workers",),
    "save_steps": ("train.checkpoint_steps",),
    "freeze_vision_tower": ("train.freeze",),
    "lora_r": ("train.lora.rank",),
    "lora_rank": ("train.lora.rank",),
    "lora_alpha": ("train.lora.alpha",),
    "lora_target": ("train.lora.targets",),
    "target_modules": ("train.lora.targets",),
}
"""Keys that TRL, LLaMA-Factory and vLLM have, with those of the same purpose here."""
DIFFERENCES = {
    "per_device_train_batch_size": "it counts the examples of all workers together",
    "max_length": "it drops longer examples and does not cut them",
    "max_seq_length": "it drops longer examples and does not cut them",
    "cutoff_len": "it drops longer examples and does not cut them",
}
"""What a user of such a key must know of the one here."""
_MOST_SUGGESTED = 3


class _Texts:
    """Texts that OmegaConf must not interpret, such as "${price}" or "???"; placeholders stand for them meanwhile."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def hide(self, text: str) -> str:
        """A placeholder for a text."""
        self.texts.append(text)
        return f"\ue000{len(self.texts) - 1}\ue001"

    def reveal(self, text: str) -> str:
        """A text with its placeholders replaced, also where an interpolation has copied them."""
        known = {f"\ue000{index}\ue001": hidden for index, hidden in enumerate(self.texts)}
        return re.sub("\ue000\\d+\ue001", lambda match: known.get(match[0], match[0]), text)


def read_yaml(path: Path) -> dict[Any, Any]:
    """The content of a YAML file, with its interpolations; raises UserError if it is not a readable mapping."""
    if path.is_dir():
        raise UserError(f"configuration file {path} is a folder; give a YAML file in it")
    if not path.is_file():
        raise UserError(f"configuration file {path} does not exist")
    try:
        content = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not readable YAML: {_yaml_problem(error)}") from error
    if not OmegaConf.is_dict(content):
        raise UserError(f"{path} must contain keys and values (a YAML mapping)")
    values: dict[Any, Any] = OmegaConf.to_container(content)
    return values


def merge(
    base: Mapping[Any, Any], overrides: Sequence[str], text_keys: Collection[str], where: str, *, resolve: bool = True
) -> dict[Any, Any]:
    """Merge overrides into a configuration.

    Args:
        base: the configuration, such as the content of a YAML file.
        overrides: texts of the form key=value with dotted keys, applied in order.
        text_keys: the keys whose values are texts.
        where: description of the configuration, for messages.
        resolve: whether texts of `base` may be interpolations; if not, they are taken as they are.

    Raises:
        UserError: an override or an interpolation cannot be read, or a text cannot be encoded.
    """
    texts = _Texts()
    first = OmegaConf.create(dict(base) if resolve else _map_texts(base, texts.hide))
    parts = [_override(item, text_keys, texts) for item in overrides]
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(first, *parts), resolve=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"cannot merge {where} with the overrides: {first_line(error)}") from error
    values: dict[Any, Any] = _map_texts(merged, texts.reveal)
    for key, text in _texts_of(values):
        if "\0" in text or not _encodable(text):
            raise UserError(f"{where}: {key}: not valid text (a lone surrogate or a NUL character), got {text!r}"[:300])
    return values


def _override(item: str, text_keys: Collection[str], texts: _Texts) -> Any:
    """One override as an OmegaConf mapping."""
    key, equals, value = item.partition("=")
    if not equals or item.startswith("-"):
        raise UserError(f"{item!r} is not an override; write key=value, for example train.lr=1e-4")
    try:
        if key not in text_keys:
            return OmegaConf.from_dotlist([item])
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{key}: {value!r} is not readable YAML: {_yaml_problem(error)}; correct the value") from error
    part = OmegaConf.create({})
    OmegaConf.update(part, key, texts.hide(value))
    return part


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value in which all texts are changed, also in mappings and lists."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_texts(item, change) for key, item in value.items()}
    return [_map_texts(item, change) for item in value] if isinstance(value, list | tuple) else value


def _texts_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts of a value with their dotted keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts_of(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts_of(item, key)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _yaml_problem(error: Exception) -> str:
    """What is wrong with a YAML text, and in which line."""
    if isinstance(error, MarkedYAMLError) and error.problem:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        return f"{error.problem}{line}"[:200]
    return first_line(error)


def explain(error: ValidationError, schema: type[BaseModel], where: str, overridden: Sequence[str]) -> str:
    """A line about the first problem of a validation.

    Args:
        error: the problems.
        schema: class of the configuration.
        where: description of the configuration.
        overridden: the keys that are not from `where`, but from the command line.
    """
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"])).removesuffix(".[key]")
    if named := [name for name in overridden if f"{name}.".startswith(f"{key}.")]:
        key, where = named[0], COMMAND_LINE
    elif any(f"{key}.".startswith(f"{name}.") for name in overridden):
        where = COMMAND_LINE
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return _about_unknown(key, schema, where) + more
    if first["type"] == "model_type" and (inside := [name for name in keys(schema) if name.startswith(f"{key}.")]):
        found = "without keys; delete it or" if first["input"] is None else f"not {first['input']!r}"[:200] + ";"
        example = inside[0] + ("=..." if where == COMMAND_LINE else "")
        return f"{where}: {key} is a section, {found} set its keys, such as {example}{more}"
    scalar = first["type"] == "string_type" and not isinstance(first["input"], dict | list)
    quotes = "; in a YAML file, put it in quotes" if scalar else ""
    return (
        f"{where}: {key or 'configuration'}: {_expected(first, schema)}, got {first['input']!r}"[:300] + quotes + more
    )


def _expected(problem: ErrorDetails, schema: type[BaseModel]) -> str:
    """What is expected in place of a value, in words that need no knowledge of Python."""
    kind = _kind_at(schema, problem["loc"])
    match problem["type"]:
        case "tuple_type":
            return f"expected a list, such as {_example(kind, problem['input'])}"
        case "dict_type" | "model_type":
            return f"expected a mapping, such as {_example(kind)}"
        case "string_pattern_mismatch" if problem["ctx"]["pattern"] == NAME:
            return "expected letters, digits, '.', '_' and '-', beginning with a letter or digit"
    return problem["msg"].removeprefix("Value error, ")


def _example(kind: Any, given: object = None) -> str:
    """A value of a type as YAML, of the given words if they fit."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "{" + ", ".join(f"{name}: ..." for name in kind.model_fields) + "}"
    if get_origin(kind) is dict:
        key, value = get_args(kind)
        name = "NAME" if key is str else _example(key)
        return f"{{{name}: {_example(value)}}}"
    if get_origin(kind) is Literal:
        return str(get_args(kind)[0])
    if get_origin(kind) is not tuple:
        return "..."
    member = get_args(kind)[0]
    words = [word.strip() for word in given.strip("[]() ").split(",")] if isinstance(given, str) else []
    fitting = [word for word in words if word and (member is str or word in get_args(member))]
    return f"[{', '.join(fitting or [_example(member)])}]"


def _kind_at(kind: Any, location: Sequence[int | str]) -> Any:
    """The type of the value at a place of a configuration; None if there is no such place."""
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        else:
            kind = next(iter(get_args(kind)[-1:] if get_origin(kind) is dict else get_args(kind)), None)
        if NoneType in get_args(kind):
            kind = next(member for member in get_args(kind) if member is not NoneType)
    return kind


def _about_unknown(key: str, schema: type[BaseModel], where: str) -> str:
    """What to say about a key that does not exist."""
    if key in RENAMED_KEYS:
        return f"{where}: {key} was renamed to {RENAMED_KEYS[key]}"
    if key in REMOVED_KEYS:
        return f"{where}: {key} was removed: {REMOVED_KEYS[key]}"
    if not (meant := _similar(key, schema)):
        return f"unknown key {key!r} in {where}; --dry-run lists all keys"
    *others, last = (f"'{name}'" for name in meant)
    listed = f"{', '.join(others)} or {last}" if others else last
    difference = DIFFERENCES.get(_name_of(key), "") if meant == KEYS_ELSEWHERE.get(_name_of(key), ()) else ""
    return f"unknown key {key!r} in {where}; did you mean {listed}?" + (f" ({difference})" if difference else "")


def _similar(key: str, schema: type[BaseModel]) -> tuple[str, ...]:
    """The keys and sections that may be meant by a key that does not exist, at most `_MOST_SUGGESTED`."""
    known, section, name = _keys_and_sections(schema), key.rpartition(".")[0], _name_of(key)
    elsewhere = KEYS_ELSEWHERE.get(name, ())
    same_name = [other for other in known if _name_of(other) == name]
    for found in (elsewhere, [other for other in known if other.endswith(f".{key}")], same_name):
        inside = [other for other in found if section and other.startswith(f"{section}.")]
        nearest = difflib.get_close_matches(key, found, n=1, cutoff=0.8)
        if 0 < len(chosen := inside or nearest or found) <= _MOST_SUGGESTED:
            return tuple(chosen)
    beside = {_name_of(other): other for other in known if other.rpartition(".")[0] == section}
    if beside:
        return tuple(beside[close] for close in difflib.get_close_matches(name, beside, n=1))
    return tuple(difflib.get_close_matches(key, known, n=1))


def _name_of(key: str) -> str:
    """The last part of a key, as configurations spell it."""
    return key.rpartition(".")[2].lower().replace("-", "_")


def _keys_and_sections(schema: type[BaseModel]) -> list[str]:
    """All dotted keys, and the dotted names of the sections that they are in."""
    names = keys(schema)
    return [*names, *dict.fromkeys(name[: dot.start()] for name in names for dot in re.finditer(r"\.", name))]


def keys(schema: type[BaseModel], prefix: str = "", wanted: Callable[[Any], bool] = lambda kind: True) -> list[str]:
    """All dotted keys of a section.

    Args:
        schema: class of the section.
        prefix: put before each key.
        wanted: whether to list a key, given the type of its values.
    """
    names: list[str] = []
    for name, info in schema.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += keys(kind, f"{prefix}{name}.", wanted)
        elif wanted(kind):
            names.append(prefix + name)
    return names


def shipped_models() -> Path:
    """Folder of the shipped models: of this package, or of the node, since a submitted job leaves them behind (.rayignore)."""
    inside = Path("vlrm_ray", "scenes", "assets")
    own, named = Path(__file__).parents[1] / inside, os.environ.get("VLRM_ASSETS", "")
    if own.is_dir():
        return own
    if named:
        return Path(named)
    with suppress(PackageNotFoundError):
        package = distribution("vlrm-ray")
        checkout = json.loads(package.read_text("direct_url.json") or "{}").get("url", "")
        places = (Path(url2pathname(urlsplit(checkout).path)) / inside, Path(str(package.locate_file(inside))))
        return next((place for place in places if place.is_dir()), own)
    return own
