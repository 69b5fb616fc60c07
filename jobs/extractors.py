"""The claim extractor that a command line asks for; an LLM one brings its engine with it."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlrm_ray.claims import KINDS, Extractor, extractor
from vlrm_ray.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.config import asset_path
from vlrm_ray.engines import EngineSettings

MODEL = "assets:extractor"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--extractor` and `--extractor-model`."""
    parser.add_argument("--extractor", choices=KINDS, default="rule", help="who finds the claims (default: rule)")
    parser.add_argument(
        "--extractor-model", default=MODEL, metavar="MODEL", help="Hugging Face folder or name for --extractor llm"
    )


@contextmanager
def chosen(arguments: argparse.Namespace) -> Iterator[Extractor]:
    """The extractor of the parsed options; closes its engine at the end."""
    if arguments.extractor == "rule":
        yield extractor("rule")
        return
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.vllm_engine import VllmEngine

    engine = VllmEngine(
        EngineSettings("vllm", asset_path(arguments.extractor_model), "float32", 2048, 64, 128, 0.5, 0, 1)
    )
    try:
        yield extractor("llm", engine.generate)
    finally:
        engine.close()
