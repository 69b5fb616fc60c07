"""ScenesBench: held-out preference pairs that differ by one minimal edit, with the facts to check critiques by.

The pairs are balanced: for each pair in which "two" is true and "three" is false there is one with the roles
exchanged. A text-only model can therefore not do better than chance.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice

from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.language import HALLUCINATION, REASONING, Exchange, cell_name, label, make_exchange
from vlrm_ray.scenes.world import HELD_OUT, PRIOR_COLOR, PRIOR_WORD, SIGN, TEST_WORLD, Scene
from vlrm_ray.store.ledger import Ledger

HALLUCINATION_GROUP, REASONING_GROUP = "hallucination", "reasoning"
CALIBRATION = "calibration"
CALIBRATION_PAIRS = 400
"""Pairs per group of the `CALIBRATION` split, on which the reward's temperature is fitted."""
TOLD_PAIRS = 200
"""Pairs that are judged from told facts too, which shows whether training makes the model forget how to reason from them."""
_KINDS = {HALLUCINATION_GROUP: HALLUCINATION, REASONING_GROUP: REASONING}
_FIRST_SEED = {CALIBRATION: 30_000_000, "dev": 40_000_000, "test": 50_000_000}


@dataclass(frozen=True)
class BenchItem:
    """One preference pair.

    Attributes:
        item_id: unique id with split, group and index.
        group: `HALLUCINATION_GROUP` or `REASONING_GROUP`.
        kind: kind of the question.
        image: path or URI of the image.
        question: the question.
        rephrased: the question in other words.
        chosen: the true response.
        rejected: the false response.
        facts: the true entries of a critique's description.
        slots: the words in which the two responses differ (`Exchange.slots`).
    """

    item_id: str
    group: str
    kind: str
    image: str
    question: str
    rephrased: str
    chosen: str
    rejected: str
    facts: tuple[str, ...]
    slots: tuple[str, str] = ("", "")

    @property
    def has_new_combination(self) -> bool:
        """Whether the image has a held-out combination of shape and color."""
        return any(is_new_combination(fact) for fact in self.facts)


def items(split: str, per_group: int, ledger: Ledger) -> list[BenchItem]:
    """`per_group` pairs of each group, with equal shares of each kind. The result is the same in every call.

    Args:
        split: "dev", "test" or `CALIBRATION`.
        per_group: number of pairs in each group.
        ledger: stores the images.
    """
    pairs: list[BenchItem] = []
    for group, kinds in _KINDS.items():
        for index, (scene, exchange) in enumerate(exchanges(split, group, kinds, per_group)):
            pairs.append(
                BenchItem(
                    f"{split}-{group}-{index:05d}", group, exchange.kind, store_image(scene, ledger),
                    exchange.question, exchange.rephrased, exchange.right.text, exchange.wrong.text,
                    facts_of(scene), exchange.slots,
                )
            )  # fmt: skip
    return pairs


def kinds_of(group: str, count: int) -> list[str]:
    """The kinds of a group's first `count` pairs, without sampling the scenes."""
    return list(islice(cycle(_KINDS[group]), count))


def new_combinations(split: str, group: str, count: int) -> list[bool]:
    """Whether the images of a group's first `count` pairs have a held-out combination of shape and color."""
    return [any(map(is_new_combination, facts_of(scene))) for scene, _ in exchanges(split, group, _KINDS[group], count)]


def matches_prior(slot: str) -> bool:
    """Whether a slot agrees with the tiny VLM's prior: a shape in its `PRIOR_COLOR`, or the `PRIOR_WORD`."""
    prior = {PRIOR_WORD, *(f"{color} {shape}" for shape, color in PRIOR_COLOR.items())}
    return slot.removesuffix(" there") in prior


def prior_noun(slot: str) -> str:
    """The shape or "sign" that a slot which matches the prior is about."""
    return SIGN if slot == PRIOR_WORD else slot.removesuffix(" there").split()[-1]


def facts_of(scene: Scene) -> tuple[str, ...]:
    """Each object with its cell, as in a description."""
    return tuple(f"{label(o)} {cell_name(o.cell)}" for o in scene.objects)


def is_new_combination(fact: str) -> bool:
    """Whether a fact is about a shape in a color that no scene of the pre-training or of the rounds has; see `HELD_OUT`."""
    color, shape, *_ = fact.split()
    return (shape, color) in HELD_OUT


def is_sign(fact: str) -> bool:
    """Whether a fact is about a sign."""
    return fact.startswith(f"{SIGN} ")


@lru_cache(maxsize=8)
def exchanges(split: str, group: str, kinds: tuple[str, ...], count: int) -> tuple[tuple[Scene, Exchange], ...]:
    """Scenes with a question each, the kinds in turn, balanced by kind and slots."""
    return tuple(_balanced(split, group, kinds, count))


def _balanced(split: str, group: str, kinds: tuple[str, ...], count: int) -> Iterator[tuple[Scene, Exchange]]:
    """Sample scenes until one gives a question that keeps each (right, wrong) pair of slots balanced."""
    seed = _FIRST_SEED[split] + (5_000_000 if group == REASONING_GROUP else 0)
    taken: Counter[tuple[str, str, str]] = Counter()
    for kind in islice(cycle(kinds), count):
        while True:
            seed += 1
            scene = TEST_WORLD.sample(seed)
            exchange = make_exchange(scene, random.Random(f"{split}-{group}-{seed}"), kind)
            if exchange is None:
                continue
            right, wrong = exchange.slots
            if taken[kind, right, wrong] <= taken[kind, wrong, right]:
                taken[kind, right, wrong] += 1
                yield scene, exchange
                break
