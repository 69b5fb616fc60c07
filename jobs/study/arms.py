"""The arms of the study: the method, an upper bound, self-labelling, and ablations of single parts."""

from dataclasses import dataclass
from typing import Any

from vlrm_ray.config import Config, with_overrides

FULL, ORACLE, SELF, NOT_RECOLORED = "full", "oracle", "self_labelling", "not_recolored"


@dataclass(frozen=True)
class Arm:
    """One arm of the study.

    Attributes:
        description: difference from the method, in a few words.
        overrides: dotted overrides of the method's configuration.
        seeds: number of seeds that it is run with, starting at 0.
        ground_truth: labels and evidence come from ground truth instead of experts.
        single_round: a single round has as many prompts as all rounds of the method.
    """

    description: str
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    ground_truth: bool = False
    single_round: bool = False

    def definition(self) -> dict[str, Any]:
        """What the results of the arm depend on, beside the method."""
        return {
            "overrides": list(self.overrides), "ground_truth": self.ground_truth, "single_round": self.single_round
        }  # fmt: skip


ARMS: dict[str, Arm] = {
    FULL: Arm("the method", seeds=5),
    "one_round": Arm("a single round with as many prompts", seeds=5, single_round=True),
    "cumulative": Arm(
        "each round trains the untrained model on the pairs of all rounds so far",
        ("train.initial=base", "train.replay=1000"),
        seeds=5,
    ),
    SELF: Arm("labels from the reward model's own scores, no experts", ("pairing.labels=self",)),
    ORACLE: Arm(
        "labels and evidence from ground truth, no recolored images", ("prompts.recolor=0",), ground_truth=True
    ),
    NOT_RECOLORED: Arm("no recolored images", ("prompts.recolor=0",)),
    "not_checked": Arm("critiques with a false statement are learned too", ("selection.checked=false",)),
    "both_sides": Arm("pairs of which one side is not judged rightly are dropped", ("selection.sides=both",)),
    "no_margin": Arm("all pairs are kept, each with its first critiques", ("selection.margin=-1",)),
    "newest_writes": Arm("the newest version writes the critiques", ("critic.writer=newest",)),
    "no_critique": Arm("direct Yes or No, without a critique", ("critic.format=direct", "selection.margin=-1")),
    "averaged": Arm("each round trains twice, and the mean of the weights is published", ("train.fits=2",)),
    "replay": Arm("the pairs of earlier rounds are learned again", ("train.replay=1",)),
    "described": Arm("all images are described, also those without a pair", ("train.description_weight=1",)),
    "no_image_free": Arm("no image-free candidates", ("policy.image_free=0",)),
    "policy_only": Arm(
        "no image-free and no image-degraded candidates", ("policy.image_free=0", "policy.image_degraded=0")
    ),
    "no_length_matching": Arm("no limit on the length ratio of a pair", ("pairing.max_length_ratio=1000",)),
}


def config_of(base: Config, arm: str, seed: int, folder: str) -> Config:
    """The configuration of one run.

    Args:
        base: the method's configuration.
        arm: name of the arm.
        seed: seed of the run.
        folder: folder of the study; runs share the cache in its subfolder `shared`.
    """
    changes = ARMS[arm]
    rounds, prompts = base.most_rounds, base.prompts.per_round
    return with_overrides(
        base,
        [
            f"name={arm}-{seed}",
            f"folder={folder}",
            f"cache={folder}/shared",
            f"seed={seed}",
            f"rounds={1 if changes.single_round else rounds}",
            f"prompts.per_round={base.prompts.until_round(rounds) if changes.single_round else list(prompts)}",
            *changes.overrides,
        ],
    )
