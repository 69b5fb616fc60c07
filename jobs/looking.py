"""The configured experts in this process, for commands that need no Ray."""

import os

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
