"""Ground truth as `Evidence`: for building assets, for evaluation, and for the study's oracle."""

from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import Scene
from vlrm_ray.types import Detection, Evidence, Word


def true_evidence(scene: Scene) -> Evidence:
    """The evidence that error-free experts would report, every confidence being 1."""
    rendered = paint(scene)
    labelled = list(zip(scene.objects, rendered.boxes, strict=True))
    objects = tuple(Detection(o.shape, box, 1.0, o.color) for o, box in labelled)
    words = tuple(Word(o.word, box, 1.0) for o, box in labelled if o.word)
    return Evidence(*rendered.image.size, objects, words)
