"""Look at what a run or an expert is worth.

python jobs/evaluate.py COMMAND --help
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Protocol, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, also inside a Ray job

from vlrm_ray.errors import run_as_program

COMMANDS: dict[str, str] = {
    "claims": "the claims of each line of a text file",
    "verify": "claims, verdicts and evidence of one response on one picture",
    "experts": "how far the experts' verdicts can be trusted, on fresh scenes and under shift",
    "show": "one prompt of a run as a web page: picture, responses, verdicts, evidence",
    "report": "a run's report.html, written again",
    "bench": "a reward model on a public benchmark",
    "compare": "two benchmark summaries, item by item",
    "study": "the method against its ablations, over seeds",
}
"""What `--help` says of each module in `jobs/evaluations/`."""


class Command(Protocol):
    """A module in `jobs/evaluations/`."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""
        ...

    def run(self, arguments: argparse.Namespace) -> None:
        """Do it; raises UserError with what the user has to mend."""
        ...


def main() -> None:
    """Hand the command line to the command it names."""
    listed = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\ncommands:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    command = cast(Command, importlib.import_module(f"jobs.evaluations.{chosen.command}"))
    options = argparse.ArgumentParser(
        prog=f"evaluate.py {chosen.command}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(options)
    command.run(options.parse_args(chosen.rest))


if __name__ == "__main__":
    run_as_program(main)
