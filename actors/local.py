"""Vision experts and the LLM claim extractor in the calling process, for commands that need no Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlrm_ray.claims.llm import LlmExtractor
from vlrm_ray.config import Config
from vlrm_ray.engines import EngineSettings
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV

EXTRACTOR_TOKENS = 2048
"""Context of the LLM claim extractor: prompt and answer together, in tokens."""


def load_vision_experts(config: Config) -> VisionExperts:
    """Load the detector and, if it is enabled, the reader; raises UserError."""
    os.environ.update(WORKER_ENV | CPU_ENV)
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
    """An LLM extractor with a vLLM engine in this process, on the first GPU where there is one."""
    os.environ.update(WORKER_ENV)
    import torch

    gpus = min(1, torch.cuda.device_count())
    os.environ.update({} if gpus else CPU_ENV)
    from actors.vllm_engine import VllmEngine

    engine = VllmEngine(
        EngineSettings("vllm", model, "bfloat16" if gpus else "float32", EXTRACTOR_TOKENS, 64, 128, 0.5, gpus, 1)
    )
    try:
        yield LlmExtractor(engine.generate)
    finally:
        engine.close()
