"""Both experts as one: images in, evidence out, in batches. Where the verbs run is the caller's business."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrm_ray.evidence import evidence_of
from vlrm_ray.look import Find, Pixels, look
from vlrm_ray.types import Evidence, Look, Word

BATCH = 32
"""Images in one call of the detector."""


@dataclass(frozen=True)
class Eyes:
    """A detector's and a reader's verbs, and the fingerprints of the two.

    Attributes:
        confidence: score below which a box is faint.
    """

    find: Find
    read: Callable[[Pixels], tuple[Word, ...]]
    confidence: float
    fingerprints: tuple[str, str] = ("", "")

    def look(self, images: Sequence[Pixels]) -> list[Look]:
        """What the detector sees in RGB images (h, w, 3)."""
        starts = range(0, len(images), BATCH)
        return [seen for start in starts for seen in look(images[start : start + BATCH], self.find, self.confidence)]

    def see(self, images: Sequence[Pixels]) -> list[Evidence]:
        """What both experts see in RGB images (h, w, 3)."""
        looks = self.look(images)
        return [evidence_of(seen, self.read(image)) for seen, image in zip(looks, images, strict=True)]
