"""Rates of the experts and of the matcher in this process, on fresh scenes."""

import random
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from actors.local import load_vision_experts
from vlrm_ray.claims import extractor
from vlrm_ray.config import Config
from vlrm_ray.experts.detection import Pixels, detect_objects
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, View, view
from vlrm_ray.scenes.statements import statements
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Detections, Evidence

FIRST_SEED, IMAGES = 73_000_000, 128
BATCHES = (1, 8, 32)
CLAIMS_PER_IMAGE = 40
"""Several candidates of several claims each, as in a round."""


def measure_experts(config: Config, progress: Progress) -> dict[str, float]:
    """Images per second of each expert by batch size, claims per second, the cache's hit rate."""
    vision_experts = load_vision_experts(config)
    views = [view(IN_DISTRIBUTION, FIRST_SEED + index) for index in range(IMAGES)]
    pictures = [np.asarray(v.picture.image) for v in views]
    detect_objects(pictures[:8], vision_experts.detect, vision_experts.confidence)
    figures: dict[str, float] = {}
    for batch in BATCHES:
        with progress.stage(f"detector, {batch} at a time"):
            figures[f"images/s, detector, colours and quality, batch {batch}"] = _rate(
                IMAGES,
                lambda batch=batch: _looked(pictures, vision_experts, batch),  # type: ignore[misc]
            )
    with progress.stage("reader"):
        figures["images/s, reader, batch 1"] = _rate(IMAGES, lambda: [vision_experts.read(p) for p in pictures])
    figures |= _cached(pictures, vision_experts)
    with progress.stage("matching"):
        figures |= _matched(views, vision_experts.inspect(pictures), Verifier.from_config(config.experts))
    return figures


def _looked(pictures: Sequence[Pixels], vision_experts: VisionExperts, batch: int) -> list[Detections]:
    starts = range(0, len(pictures), batch)
    return [
        seen
        for start in starts
        for seen in detect_objects(pictures[start : start + batch], vision_experts.detect, vision_experts.confidence)
    ]


def _cached(pictures: Sequence[Pixels], vision_experts: VisionExperts) -> dict[str, float]:
    """The same images in a second round, after a restart: everything comes from the run's folder."""
    hashes = [sha256_of(picture.tobytes()) for picture in pictures]
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(scratch)
        AnswerCache(ledger, "bench", Detections).fill(
            hashes, lambda asked: [(s,) for s in vision_experts.detections(pictures)]
        )
        restarted = AnswerCache(ledger, "bench", Detections)
        rate = _rate(len(hashes), lambda: restarted.fill(hashes, lambda asked: []))
    return {
        "cache hit rate, second round after a restart": restarted.hits / restarted.asked,
        "images/s, answered by the cache": rate,
    }


def _matched(views: Sequence[View], seen: Sequence[Evidence], verifier: Verifier) -> dict[str, float]:
    rules = extractor("rule")
    said = []
    for shown, evidence in zip(views, seen, strict=True):
        rng = random.Random(shown.scene.seed)
        claims = [c for s in statements(shown, rng) for c in rules.claims(s.text, s.question)]
        said.append(((claims * CLAIMS_PER_IMAGE)[:CLAIMS_PER_IMAGE], evidence))
    total = sum(len(claims) for claims, _ in said)
    together = _rate(total, lambda: [verifier.check_all(claims, evidence) for claims, evidence in said])
    alone = _rate(total, lambda: [verifier.check(claim, evidence) for claims, evidence in said for claim in claims])
    return {"claims/s, all of an image together": together, "claims/s, one at a time": alone}


def _rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)
