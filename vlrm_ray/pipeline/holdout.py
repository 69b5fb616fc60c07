"""The images of the user's own data that no reward model is trained on: a share of them, split by content.

Whether an image is held out depends on its sha256 and the run's seed only. So it stays on its side when the data grow, when
its file has another name, and in every round; and all prompts about it are on the same side. A larger share holds out the
images of a smaller one, and more.
"""

from vlrm_ray.config import Config
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline.prompts import SCENES

HELD_OUT = "held_out"
"""Reason of a pair that is made, but not trained on."""
_SEEDS = 1 << 31


def holds_out(config: Config) -> bool:
    """Whether a run holds images out; runs on the embedded scenes do not, because ScenesBench measures them."""
    return config.evaluation.holdout > 0 and config.prompts.source != SCENES


def is_held_out(config: Config, sha256: str) -> bool:
    """Whether an image with some sha256 is held out."""
    return holds_out(config) and seed_of(HELD_OUT, config.seed, sha256) < config.evaluation.holdout * _SEEDS
