"""Both experts as one: images in, evidence out, in batches. Where the verbs run is the caller's business."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrm_ray.experts.detection import DetectFn, Pixels, detect_objects
from vlrm_ray.experts.evidence import combine_evidence
from vlrm_ray.types import Detections, Evidence, Word

BATCH = 32
"""Images in one call of the detector."""


@dataclass(frozen=True)
class VisionExperts:
    """A detector's and a reader's verbs, and the fingerprints of the two.

    Attributes:
        confidence: score below which a box is faint.
    """

    detect: DetectFn
    read: Callable[[Pixels], tuple[Word, ...]]
    confidence: float
    fingerprints: tuple[str, str] = ("", "")

    def detections(self, images: Sequence[Pixels]) -> list[Detections]:
        """What the detector sees in RGB images (h, w, 3)."""
        starts = range(0, len(images), BATCH)
        return [
            seen
            for start in starts
            for seen in detect_objects(images[start : start + BATCH], self.detect, self.confidence)
        ]

    def inspect(self, images: Sequence[Pixels]) -> list[Evidence]:
        """What both experts see in RGB images (h, w, 3)."""
        detections = self.detections(images)
        return [combine_evidence(seen, self.read(image)) for seen, image in zip(detections, images, strict=True)]
