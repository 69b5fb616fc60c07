"""The claim extractor that a command line asks for; an LLM one brings its engine with it."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlrm_ray.claims import KINDS, Extractor, extractor
from vlrm_ray.claims.llm import LlmExtractor
from vlrm_ray.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.config import asset_path
from vlrm_ray.engines import EngineSettings

MODEL = "assets:extractor"
LONGEST = 2048
"""Prompt and answer together, in tokens."""


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
    with served(asset_path(arguments.extractor_model)) as found:
        yield found


@contextmanager
def served(model: str) -> Iterator[LlmExtractor]:
    """An LLM extractor with a vLLM engine in this process, on the first GPU where there is one."""
    os.environ.update(WORKER_ENV)
    import torch

    gpus = min(1, torch.cuda.device_count())
    os.environ.update({} if gpus else CPU_ENV)
    from actors.vllm_engine import VllmEngine

    engine = VllmEngine(
        EngineSettings("vllm", model, "bfloat16" if gpus else "float32", LONGEST, 64, 128, 0.5, gpus, 1)
    )
    try:
        yield LlmExtractor(engine.generate)
    finally:
        engine.close()
