"""Reads YAML files and overrides of a configuration into plain values, before they are validated; finds the shipped models.

An override of a text key is taken as it stands, to its last character. The values of all other keys are YAML.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from vlrm_ray.errors import UserError, first_line


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
