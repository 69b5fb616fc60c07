"""The images of the user's own data that no reward model is trained on: a share of them, split by content.

Whether an image is held out depends on its sha256 and the run's seed only. So it stays on its side when the data grow, when
its file has another name, and in every round; and all prompts about it are on the same side. A larger share holds out the
images of a smaller one, and more.
"""

from vlrm_ray.config import Config
from vlrm_ray.ids import falls_in
from vlrm_ray.pipeline.prompts import SCENES

HELD_OUT = "held_out"
"""Reason of a pair that is made, but not trained on, and of a prompt of which nothing is made."""
MEASURED_ROUND = 1
"""The round whose held-out pairs are judged after every round, so that the rounds can be compared pair by pair."""


def holds_out(config: Config) -> bool:
    """Whether a run holds images out.

    Runs on the embedded scenes do not, because ScenesBench measures them. Nor do those that label pairs by the model's own
    rewards: on such pairs the model would be measured against itself.
    """
    return config.evaluation.holdout > 0 and config.prompts.source != SCENES and config.pairing.labels != "self"


def is_held_out(config: Config, sha256: str) -> bool:
    """Whether an image with some sha256 is held out."""
    return holds_out(config) and falls_in(config.evaluation.holdout, HELD_OUT, config.seed, sha256)


def is_skipped(config: Config, round_: int, sha256: str) -> bool:
    """Whether nothing is made of an image in a round: it is held out, and was measured with round 1."""
    return round_ > MEASURED_ROUND and is_held_out(config, sha256)
