"""Options and output that the commands of `jobs/bench.py` share."""

import argparse
import json
from collections.abc import Mapping

from rich.console import Console

from vlrm_ray.pipeline.progress import Progress


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--config` and overrides."""
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file, as for jobs/iterate.py")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides with dotted keys")


def add_json_option(parser: argparse.ArgumentParser, text: str = "print progress to the standard error output") -> None:
    """Declare `--json`; by default for a command whose figures are JSON anyway."""
    parser.add_argument("--json", action="store_true", help=text)


def progress_beside_json(arguments: argparse.Namespace) -> Progress:
    """Progress on the standard output, or with --json on the standard error output."""
    return Progress(Console(stderr=True, highlight=False, soft_wrap=True) if arguments.json else None)


def show_figures(figures: Mapping[str, float], progress: Progress, *, as_json: bool) -> None:
    """Print figures as a table and, with `as_json`, also as JSON on the last line."""
    progress.table("bench", ["figure", "value"], [[name, f"{value:.2f}"] for name, value in figures.items()])
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
