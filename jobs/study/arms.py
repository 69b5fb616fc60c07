"""The arms of the study: the method, its upper bound, the dilemma, and the method with one part taken away."""

from dataclasses import dataclass

from vlrm_ray.config import Config, with_overrides

FULL, ORACLE, SELF = "full", "oracle", "self_labelling"


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        what: what it differs in, in a few words.
        overrides: dotted overrides of the method's configuration.
        seeds: how many of the study's seeds it is run with.
        truth: labels and hints come from ground truth instead of experts.
        once: all rounds' prompts in a single round.
    """

    what: str
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    truth: bool = False
    once: bool = False


ARMS: dict[str, Arm] = {
    FULL: Arm("the method", seeds=5),
    SELF: Arm("labels from the reward model's own scores, no experts", ("pairing.labels=self",), seeds=5),
    ORACLE: Arm("labels and hints from ground truth", seeds=5, truth=True),
    "no_critique": Arm("a direct Yes or No", ("critic.format=direct", "selection.margin=-1")),
    "no_margin": Arm("every pair is kept, with its first critiques", ("selection.margin=-1",)),
    "one_round": Arm("one round with all rounds' prompts", once=True),
    "no_image_free": Arm("no candidates made without the image", ("policy.image_free=0",)),
    "policy_only": Arm(
        "no candidates made without or with a poor image", ("policy.image_free=0", "policy.image_degraded=0")
    ),
    "no_length_matching": Arm("pairs of any length", ("pairing.max_length_ratio=1000",)),
}


def config_of(base: Config, arm: str, seed: int, folder: str) -> Config:
    """The configuration of one run: the method's, changed as the arm says."""
    chosen = ARMS[arm]
    rounds, prompts = base.rounds, base.prompts.per_round
    return with_overrides(
        base,
        [
            f"name={arm}-{seed}",
            f"folder={folder}",
            f"cache={folder}/shared",
            f"seed={seed}",
            f"rounds={1 if chosen.once else rounds}",
            f"prompts.per_round={prompts * rounds if chosen.once else prompts}",
            *chosen.overrides,
        ],
    )
