"""Command-line options `--extractor` and `--extractor-model`, which several commands share."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from actors.local import local_llm_extractor
from vlrm_ray.claims import EXTRACTOR_KINDS, Extractor, make_extractor
from vlrm_ray.reward.model_folder import check_model
from vlrm_ray.store.models import local_model

DEFAULT_MODEL = "assets:extractor"


def add_extractor_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--extractor` and `--extractor-model`."""
    parser.add_argument(
        "--extractor", choices=EXTRACTOR_KINDS, default="rule", help="how to extract claims (default: rule)"
    )
    parser.add_argument(
        "--extractor-model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help="folder, URI or hub name of a Hugging Face language model for --extractor llm "
        "(default: the bundled model, which is trained on the rendered scenes only)",
    )


@contextmanager
def open_extractor(arguments: argparse.Namespace) -> Iterator[Extractor]:
    """The extractor that the parsed options choose. An engine started for it is closed on exit."""
    if arguments.extractor != "llm":
        yield make_extractor(arguments.extractor)
        return
    check_model("--extractor-model", arguments.extractor_model)
    with local_llm_extractor(local_model(arguments.extractor_model)) as extractor:
        yield extractor
