"""The arms of the study: the method, an upper bound, self-labelling, and ablations of single parts."""

from dataclasses import dataclass

from vlrm_ray.config import Config, with_overrides

FULL, ORACLE, SELF = "full", "oracle", "self_labelling"


@dataclass(frozen=True)
class Arm:
    """One arm of the study.

    Attributes:
        description: difference from the method, in a few words.
        overrides: dotted overrides of the method's configuration.
        seeds: number of seeds that it is run with, starting at 0.
        ground_truth: labels and evidence come from ground truth instead of experts.
        single_round: the prompts of all rounds are used in a single round.
    """

    description: str
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    ground_truth: bool = False
    single_round: bool = False


_RECOLORED = ("selection.sides=either", "selection.checked=true", "prompts.recolor=0.5")
ARMS: dict[str, Arm] = {
    FULL: Arm("the method", seeds=5),
    SELF: Arm("labels from the reward model's own scores, no experts", ("pairing.labels=self",), seeds=5),
    ORACLE: Arm("labels and evidence from ground truth", seeds=5, ground_truth=True),
    "no_critique": Arm("direct Yes or No, without a critique", ("critic.format=direct", "selection.margin=-1")),
    "no_margin": Arm("all pairs are kept, each with its first critiques", ("selection.margin=-1",)),
    "either_side": Arm("pairs with one right side are kept, and that side is learned", ("selection.sides=either",)),
    "recolored": Arm(
        "as either_side, half of the images get other hues, and only critiques without false statements are learned",
        _RECOLORED,
    ),
    "recolored_more": Arm("the same with three times the prompts", (*_RECOLORED, "prompts.per_round=1440")),
    "one_round": Arm("a single round with the prompts of all rounds", single_round=True),
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
    rounds, prompts = base.rounds, base.prompts.per_round
    return with_overrides(
        base,
        [
            f"name={arm}-{seed}",
            f"folder={folder}",
            f"cache={folder}/shared",
            f"seed={seed}",
            f"rounds={1 if changes.single_round else rounds}",
            f"prompts.per_round={prompts * rounds if changes.single_round else prompts}",
            *changes.overrides,
        ],
    )
