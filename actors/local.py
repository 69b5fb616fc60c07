"""Vision experts and the LLM claim extractor in the calling process, for commands that do not use Ray."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from actors.downloads import fetch_experts
from actors.reader_process import ReaderProcess
from vlrm_ray.claims.llm import EXTRACTOR_TOKENS, LlmExtractor
from vlrm_ray.config import Config
from vlrm_ray.engines import EngineSettings, generate_isolated
from vlrm_ray.errors import UserError
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, environment

if TYPE_CHECKING:
    from actors.paddle_ocr import Paddle


def load_vision_experts(config: Config) -> VisionExperts:
    """Load the detector and, if it is enabled, the OCR reader in a process of its own.

    Raises:
        UserError: the detector cannot be loaded. That the reader cannot is told when its first answer is taken.
    """
    _check_gpus(config)
    os.environ.update(environment(config) | CPU_ENV)
    fetch_experts(config, lambda line: None)
    reader = ReaderProcess(config.experts.reader) if config.experts.reader.enabled else None
    from actors.experts import load_detector

    detector, confidence = load_detector(config.experts.detector), config.experts.detector.confidence
    if reader is None:
        return VisionExperts(detector.detect, lambda images: [()] * len(images), confidence, (detector.fingerprint, ""))
    return VisionExperts(detector.detect, reader.read, confidence, (detector.fingerprint, reader.fingerprint))


def load_local_reader(config: Config) -> "Paddle":
    """Load the OCR reader alone; raises UserError if it cannot be loaded."""
    _check_gpus(config, ("reader",))
    from actors.experts import load_reader

    return load_reader(config.experts.reader)


def _check_gpus(config: Config, experts: Sequence[str] = ("detector", "reader")) -> None:
    """Raises UserError if experts are to be on GPUs, and this machine has none."""
    pools = {"detector": config.experts.detector.pool, "reader": config.experts.reader.pool}
    if not config.experts.reader.enabled:
        del pools["reader"]
    wanted = [f"experts.{name}.pool.gpus" for name, pool in pools.items() if name in experts and pool.gpus]
    if not wanted:
        return
    import torch

    if not torch.cuda.is_available():
        keys = " ".join(f"{key}=0" for key in wanted)
        raise UserError(f"the experts are to be on GPUs, but PyTorch finds none on this machine; set {keys}")


@contextmanager
def local_llm_extractor(model: str) -> Iterator[LlmExtractor]:
    """LLM claim extractor with a vLLM engine in this process, on the first GPU if there is one.

    Args:
        model: folder or hub name of the language model.
    """
    os.environ.update(WORKER_ENV)
    import torch

    gpus = min(1, torch.cuda.device_count())
    os.environ.update({} if gpus else CPU_ENV)
    from actors.vllm_engine import VllmEngine

    engine = VllmEngine(
        EngineSettings(
            kind="vllm",
            model=model,
            dtype="bfloat16" if gpus else "float32",
            max_model_len=EXTRACTOR_TOKENS,
            max_num_seqs=64,
            kv_cache_mb=128,
            gpu_memory=0.5,
            gpus=gpus,
            tensor_parallel=1,
        )
    )
    try:
        yield LlmExtractor(partial(generate_isolated, engine))
    finally:
        engine.close()
