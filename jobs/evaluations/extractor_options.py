"""`--extractor` and `--extractor-model`, which several commands share."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from actors.local import local_llm_extractor
from vlrm_ray.claims import KINDS, Extractor, extractor
from vlrm_ray.config import asset_path

MODEL = "assets:extractor"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--extractor` and `--extractor-model`."""
    parser.add_argument("--extractor", choices=KINDS, default="rule", help="who finds the claims (default: rule)")
    parser.add_argument(
        "--extractor-model",
        default=MODEL,
        metavar="MODEL",
        help="folder or name of a Hugging Face language model for --extractor llm "
        "(default: the shipped one, which knows the rendered scenes only)",
    )


@contextmanager
def chosen(arguments: argparse.Namespace) -> Iterator[Extractor]:
    """The extractor of the parsed options; closes its engine at the end."""
    if arguments.extractor == "rule":
        yield extractor("rule")
        return
    with local_llm_extractor(asset_path(arguments.extractor_model)) as found:
        yield found
