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


def is_held_out(config: Config, sha256: str) -> bool:
    """Whether an image with some sha256 is held out; none is in runs on the embedded scenes, which ScenesBench measures."""
    share = config.evaluation.holdout
    return share > 0 and config.prompts.source != SCENES and seed_of(HELD_OUT, config.seed, sha256) < share * _SEEDS
