"""The configured experts in this process, for commands that need no Ray."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlrm_ray.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.config import Config
from vlrm_ray.evidence import evidence_of
from vlrm_ray.look import Find, Pixels, look
from vlrm_ray.types import Evidence, Word


@dataclass(frozen=True)
class Eyes:
    """Both experts' verbs and fingerprints."""

    find: Find
    read: Callable[[Pixels], tuple[Word, ...]]
    confidence: float
    fingerprints: tuple[str, str]

    def see(self, image: Pixels) -> Evidence:
        """What the experts see in an RGB image (h, w, 3)."""
        return evidence_of(look([np.ascontiguousarray(image)], self.find, self.confidence)[0], self.read(image))


def open_eyes(config: Config) -> Eyes:
    """Load the detector and, if it is enabled, the reader; raises UserError."""
    os.environ.update(WORKER_ENV | CPU_ENV)
    from actors.experts import open_detector

    detector, reader = open_detector(config.experts.detector), config.experts.reader
    if not reader.enabled:
        return Eyes(detector.find, lambda image: (), config.experts.detector.confidence, (detector.fingerprint, ""))
    from actors.paddle import Paddle

    paddle = Paddle(reader)
    prints = (detector.fingerprint, paddle.fingerprint)
    return Eyes(detector.find, paddle.read, config.experts.detector.confidence, prints)
