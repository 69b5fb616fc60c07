"""The configured experts and claim extractor in this process, for commands that need no Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlrm_ray.claims import Extractor, Kind, extractor
from vlrm_ray.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.config import Config
from vlrm_ray.eyes import Eyes


def open_eyes(config: Config) -> Eyes:
    """Load the detector and, if it is enabled, the reader; raises UserError."""
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.experts import open_detector

    detector, reader = open_detector(config.experts.detector), config.experts.reader
    confidence = config.experts.detector.confidence
    if not reader.enabled:
        return Eyes(detector.find, lambda image: (), confidence, (detector.fingerprint, ""))
    from actors.paddle import Paddle

    paddle = Paddle(reader)
    return Eyes(detector.find, paddle.read, confidence, (detector.fingerprint, paddle.fingerprint))


@contextmanager
def open_extractor(kind: Kind, config: Config) -> Iterator[Extractor]:
    """The extractor of a kind; `llm` asks the policy's model in a vLLM engine of this process."""
    if kind == "rule":
        yield extractor(kind)
        return
    os.environ.update(WORKER_ENV | (CPU_ENV if config.policy.engine.gpus == 0 else {}))
    from actors.vllm_engine import VllmEngine
    from jobs.crew import engine_settings

    engine = VllmEngine(engine_settings(config.policy.engine, config.policy.model))
    try:
        yield extractor(kind, engine.generate)
    finally:
        engine.close()
