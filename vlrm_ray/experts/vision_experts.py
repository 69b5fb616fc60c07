"""Detector and OCR reader combined: a batch of images in, one `Evidence` per image out.

The two model calls are passed in as functions, so the caller decides in which process the models run. A reader in another
process reads while the detector looks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlrm_ray.experts.detection import DetectFn, Pixels, detect_objects
from vlrm_ray.experts.evidence import combine_evidence
from vlrm_ray.types import Detections, Evidence, Word

BATCH = 32
"""Images in one call of the detector."""


@dataclass(frozen=True)
class VisionExperts:
    """A detector and an OCR reader.

    Attributes:
        detect: the detector, called with a batch of images.
        read: the OCR reader, called with a batch of images; it may return before they are read.
        confidence: detections with a lower score are reported as `faint`.
        fingerprints: fingerprints of the detector and of the reader ("" without a reader).
    """

    detect: DetectFn
    read: Callable[[Sequence[Pixels]], Iterable[tuple[Word, ...]]]
    confidence: float
    fingerprints: tuple[str, str] = ("", "")

    def detections(self, images: Sequence[Pixels]) -> list[Detections]:
        """Detections in each RGB image (h, w, 3), uint8."""
        starts = range(0, len(images), BATCH)
        return [
            detections
            for start in starts
            for detections in detect_objects(images[start : start + BATCH], self.detect, self.confidence)
        ]

    def inspect(self, images: Sequence[Pixels]) -> list[Evidence]:
        """Detections and words in each RGB image (h, w, 3), uint8."""
        words = self.read(images)
        return [combine_evidence(*found) for found in zip(self.detections(images), words, strict=True)]
