"""Ground truth as evidence: for building assets, for evaluation, and for the study's upper bound."""

from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import Scene
from vlrm_ray.types import Detection, Evidence, Word


def true_evidence(scene: Scene) -> Evidence:
    """Evidence as perfect experts would give it."""
    picture = paint(scene)
    objects = tuple(Detection(t.shape, b, 1.0, t.color) for t, b in zip(scene.things, picture.boxes, strict=True))
    words = tuple(Word(t.word, b, 1.0) for t, b in zip(scene.things, picture.boxes, strict=True) if t.word)
    return Evidence(*picture.image.size, objects, words)
