"""Command-line options `--extractor` and `--extractor-model`, which several commands share."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from actors.local import local_llm_extractor
from vlrm_ray.claims import EXTRACTOR_KINDS, Extractor, make_extractor
from vlrm_ray.config import Experts
from vlrm_ray.reward.model_folder import check_model
from vlrm_ray.store.models import local_model

DEFAULT_MODEL = "assets:extractor"


def add_extractor_options(parser: argparse.ArgumentParser, *, configured: bool = False) -> None:
    """Declare `--extractor` and `--extractor-model`; `configured` says that the command has a configuration with both."""
    default = "that of the configuration" if configured else "rule"
    parser.add_argument("--extractor", choices=EXTRACTOR_KINDS, help=f"how to extract claims (default: {default})")
    parser.add_argument(
        "--extractor-model",
        metavar="MODEL",
        help="folder, URI or hub name of a Hugging Face language model for --extractor llm "
        "(default: the bundled model, which is trained on the rendered scenes only)",
    )


@contextmanager
def open_extractor(arguments: argparse.Namespace, configured: Experts | None = None) -> Iterator[Extractor]:
    """The extractor that the parsed options choose, else the configured one. An engine started for it is closed on exit."""
    kind = arguments.extractor or (configured.extractor if configured else "rule")
    if kind != "llm":
        yield make_extractor(kind)
        return
    model = arguments.extractor_model or (configured.extractor_model if configured else "") or DEFAULT_MODEL
    check_model("--extractor-model", model)
    with local_llm_extractor(local_model(model)) as extractor:
        yield extractor
