"""Write `docs/configuration.md`: every configuration key with its type, default and meaning, from `vlrm_ray.config`.

python jobs/config_reference.py           write the page
python jobs/config_reference.py --check   exit with status 2 if the page is not up to date, write nothing
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError, run_as_program
from vlrm_ray.pipeline.run_config import RESOURCE_KEYS, RESOURCE_PATHS, SESSION_KEYS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
"""Constraints of a field: the sign that the page shows, and the attribute that holds the limit."""
INTRODUCTION = """# Configuration

<!-- Written by `python jobs/config_reference.py` from vlrm_ray/config.py. Do not edit by hand. -->

A configuration is a YAML file with the sections below. Keys that the file leaves out have their defaults, and the
defaults are the embedded scenes on a laptop. Unknown keys are refused. Overrides on the command line win over the file.
The value of a text key is taken as it stands, to its last character, such as `"prompts.question=What is item #3?"`; all
other values are YAML:

```sh
python jobs/iterate.py --config jobs/configs/scenes.yaml train.lr=1e-4 rounds=1
python jobs/iterate.py --config jobs/configs/scenes.yaml --dry-run
```

`--dry-run` prints the resolved configuration and the resources that the run asks for, and starts nothing. A run is
bound to its configuration: if you run it again with other values, it is refused and the difference is shown. When a run
resumes, these may differ, and no others:

{changing}

Shipped files are `jobs/configs/scenes.yaml` (the demo), `jobs/configs/study.yaml` (the study's method),
`jobs/configs/photos.yaml` ([real experts on photographs](photographs.md)) and `jobs/configs/qwen2_5_vl_7b.yaml` (a 7B model
on 8 GPUs).
"""


def main() -> None:
    """Parse the command line, and write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the page on disk, write nothing")
    content = page()
    if not parser.parse_args().check:
        PAGE.write_text(content)
    elif PAGE.read_text() != content:
        raise UserError(f"{PAGE} differs from vlrm_ray/config.py; run: python jobs/config_reference.py")


def page() -> str:
    """The page's Markdown."""
    return "\n".join([INTRODUCTION.format(changing="\n".join(_changing())), *sections(Config())])


def _changing() -> Iterator[str]:
    """What may differ when a run resumes, as a list, from the code that refuses the rest."""
    for which, names in (
        ("at the top level, with all that is inside them", SESSION_KEYS),
        ("in any place, because they say where and with how much a run works", sorted(RESOURCE_KEYS)),
        ("of engines and the training, because they decide their use of memory and time", sorted(RESOURCE_PATHS)),
    ):
        listed = ", ".join(f"`{name}`" for name in names)
        yield textwrap.fill(f"* {which}: {listed}", 120, subsequent_indent="  ", break_on_hyphens=False)


def sections(defaults: BaseModel, prefix: str = "", meaning: str = "Keys of the run itself.") -> Iterator[str]:
    """A heading and a table for a section, then the same for each section inside it.

    Args:
        defaults: the section as the default configuration has it.
        prefix: dotted name of the section, with a dot at the end; empty for the whole configuration.
        meaning: what the section is for.
    """
    values = {name: (info, getattr(defaults, name)) for name, info in type(defaults).model_fields.items()}
    keys = {name: entry for name, entry in values.items() if not isinstance(entry[1], BaseModel)}
    yield f"## `{prefix.rstrip('.')}`\n\n{meaning}\n" if prefix else f"## Top level\n\n{meaning}\n"
    if keys:
        yield "| key | type | default | meaning |\n| --- | --- | --- | --- |"
        yield "\n".join(_row(prefix, name, info, default) for name, (info, default) in keys.items()) + "\n"
    for name, (info, value) in values.items():
        if isinstance(value, BaseModel):
            yield from sections(value, f"{prefix}{name}.", _one_line(info.description))


def _row(prefix: str, name: str, info: FieldInfo, default: object) -> str:
    cells = (f"`{prefix}{name}`", _type(info), _as_code(default), _one_line(info.description))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _as_code(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False, default=str)}`"


def _type(info: FieldInfo) -> str:
    """A field's type in words, with its limits."""
    return f"{_name(info.annotation)} {_limits(info.metadata)}".strip()


def _limits(metadata: Sequence[object]) -> str:
    return ", ".join(
        f"{sign} {getattr(item, name)}"
        for item in metadata
        for kind, (sign, name) in BOUNDS.items()
        if isinstance(item, kind)
    )


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        member = get_args(annotation)[0]
        if isinstance(member, type) and issubclass(member, BaseModel):
            return "list of {" + ", ".join(f"{name}: {_type(info)}" for name, info in member.model_fields.items()) + "}"
        limits = _limits(get_args(member)[1:]) if get_origin(member) is Annotated else ""
        return f"list of {_name(member)}s {limits}".strip()
    if get_origin(annotation) is dict:
        return "mapping"
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return " or ".join(_name(member) for member in get_args(annotation))
    return {NoneType: "null", str: "string", int: "integer", float: "number", bool: "boolean"}[annotation]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    run_as_program(main)
