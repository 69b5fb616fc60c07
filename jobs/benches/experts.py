"""Measure the throughput of the vision experts, the cache and the verifier, in this process, on freshly rendered scenes.

python jobs/bench.py experts
python jobs/bench.py experts --config FILE --json     those of a configuration; also print the figures as JSON
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from actors.local import load_vision_experts
from jobs.benches.output import add_config_options, add_json_option, show_figures
from vlrm_ray.claims import make_extractor
from vlrm_ray.config import Config, load
from vlrm_ray.engines import batches
from vlrm_ray.experts.detection import Pixels, detect_objects
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, LabelledImage, labelled_image
from vlrm_ray.scenes.statements import statements
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Claim, Detections, Evidence

FIRST_SEED, IMAGES = 73_000_000, 128
BATCHES = (1, 8, 32)
"""Batch sizes of the detector."""
CLAIMS_PER_IMAGE = 40
"""As in a round, where an image has several candidates with several claims each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config_options(parser)
    add_json_option(parser, "print the figures as JSON on the last line")


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the figures."""
    progress = Progress()
    figures = measure_experts(load(arguments.config, arguments.overrides), progress)
    show_figures(figures, progress, as_json=arguments.json)


def measure_experts(config: Config, progress: Progress) -> dict[str, float]:
    """Measure images per second of each expert, claims per second of the verifier, and the cache's hit rate and speed."""
    vision_experts = load_vision_experts(config)
    labelled = [labelled_image(IN_DISTRIBUTION, FIRST_SEED + index) for index in range(IMAGES)]
    images = [np.asarray(item.rendered.image) for item in labelled]
    vision_experts.inspect(images[:8])  # warm-up: the reader may still be loading
    figures: dict[str, float] = {}
    for batch in BATCHES:
        with progress.stage(f"detector, batch size {batch}"):
            figures[f"images/s, detector, colours and quality, batch {batch}"] = _rate(
                IMAGES,
                lambda batch=batch: _detect_in_batches(images, vision_experts, batch),  # type: ignore[misc]
            )
    with progress.stage("reader"):
        figures["images/s, reader, batch 1"] = _rate(IMAGES, lambda: list(vision_experts.read(images)))
    figures |= _measure_cache(images, vision_experts)
    with progress.stage("verifier"):
        figures |= _measure_verifier(labelled, vision_experts.inspect(images), Verifier.from_config(config.experts))
    return figures


def _detect_in_batches(images: Sequence[Pixels], vision_experts: VisionExperts, size: int) -> list[Detections]:
    return [
        detections
        for batch in batches(images, size)
        for detections in detect_objects(batch, vision_experts.detect, vision_experts.confidence)
    ]


def _measure_cache(images: Sequence[Pixels], vision_experts: VisionExperts) -> dict[str, float]:
    """Look up the same images again with a new cache object, as a restarted process does."""
    hashes = [sha256_of(image.tobytes()) for image in images]
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(scratch)
        AnswerCache(ledger, "bench", Detections).get_or_compute(
            hashes, lambda missing: [(found,) for found in vision_experts.detections(images)]
        )
        restarted = AnswerCache(ledger, "bench", Detections)
        rate = _rate(len(hashes), lambda: restarted.get_or_compute(hashes, lambda missing: []))
    return {
        "cache hit rate, second round after a restart": restarted.hits / restarted.lookups,
        "images/s, answered by the cache": rate,
    }


def _measure_verifier(
    labelled: Sequence[LabelledImage], evidence_of_images: Sequence[Evidence], verifier: Verifier
) -> dict[str, float]:
    rules = make_extractor("rule")
    work: list[tuple[list[Claim], Evidence]] = []
    for item, evidence in zip(labelled, evidence_of_images, strict=True):
        rng = random.Random(item.scene.seed)
        claims = [c for s in statements(item, rng) for c in rules.claims(s.text, s.question)]
        work.append(((claims * CLAIMS_PER_IMAGE)[:CLAIMS_PER_IMAGE], evidence))
    total = sum(len(claims) for claims, _ in work)
    together = _rate(total, lambda: [verifier.check_all(claims, evidence) for claims, evidence in work])
    single = _rate(total, lambda: [verifier.check(claim, evidence) for claims, evidence in work for claim in claims])
    return {"claims/s, all of an image together": together, "claims/s, one at a time": single}


def _rate(count: int, work: Callable[[], object]) -> float:
    """Items per second of one call of `work`, which processes `count` items."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)
