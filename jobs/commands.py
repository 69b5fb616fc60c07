"""Programs with several commands, `jobs/evaluate.py` and `jobs/bench.py`: the choice of a command, and its options.

Each command is a module of the program's package. It is imported only when the command is run. It defines
`add_arguments(parser)` and `run(arguments)`; its docstring is the command's help text.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol, cast

from vlrm_ray.errors import UserError


class Command(Protocol):
    """Interface of a command's module."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""
        ...

    def run(self, arguments: argparse.Namespace) -> None:
        """Run the command; raises UserError if the user must change something."""
        ...


def run_command(description: str, package: str, commands: Mapping[str, str], default: str | None = None) -> None:
    """Run the command that the command line begins with, with the remaining arguments.

    Args:
        description: help text of the program, above its commands.
        package: dotted name of the package with a module for each command.
        commands: summary of each command by its name, for `--help`.
        default: the command of a command line without one, which then begins with an option or an override; None refuses it.

    Raises:
        UserError: there is no such command, or it does not have such an option or argument.
    """
    program, words = Path(sys.argv[0]).name, sys.argv[1:]
    if words[:1] in (["-h"], ["--help"]):
        _print_help(program, description, commands, optional=default is not None)
        return
    if default and (not words or words[0].startswith("-") or "=" in words[0]):
        if late := [word for word in words if word in commands]:
            raise UserError(f"{late[0]} is a command: write it in front, as in `{program} {late[0]} --help`")
        words = [default, *words]
    if not words or words[0] not in commands:
        problem = f"{words[0]!r} is not a command" if words else "no command given"
        raise UserError(f"{problem}; expected one of {', '.join(commands)} (`{program} --help` describes them)")
    command = cast(Command, importlib.import_module(f"{package}.{words[0]}"))
    parser = _Parser(
        prog=f"{program} {words[0]}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    command.run(parser.parse_intermixed_args(words[1:]))


class _Parser(argparse.ArgumentParser):
    """A parser of options whose errors are shown as those of all programs: in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message}; see `{self.prog} --help`")


def _print_help(program: str, description: str, commands: Mapping[str, str], *, optional: bool) -> None:
    width = max(map(len, commands))
    listed = "\n".join(f"  {name:{width}}  {summary}" for name, summary in commands.items())
    argparse.ArgumentParser(
        usage=f"{program} {'[COMMAND]' if optional else 'COMMAND'} [options]",
        description=f"{description}\nCommands:\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).print_help()
