"""Vision experts and the LLM claim extractor in the calling process, for commands that do not use Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from actors.downloads import fetch_experts
from vlrm_ray.claims.llm import EXTRACTOR_TOKENS, LlmExtractor
from vlrm_ray.config import Config
from vlrm_ray.engines import EngineSettings, generate_isolated
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, environment


def load_vision_experts(config: Config) -> VisionExperts:
    """Load the detector and, if it is enabled, the OCR reader; raises UserError if a model cannot be loaded."""
    os.environ.update(environment(config) | CPU_ENV)
    fetch_experts(config, lambda line: None)
    from actors.experts import load_detector

    detector, reader = load_detector(config.experts.detector), config.experts.reader
    confidence = config.experts.detector.confidence
    if not reader.enabled:
        return VisionExperts(detector.detect, lambda image: (), confidence, (detector.fingerprint, ""))
    from actors.paddle_ocr import Paddle

    paddle = Paddle(reader)
    return VisionExperts(detector.detect, paddle.read, confidence, (detector.fingerprint, paddle.fingerprint))


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
