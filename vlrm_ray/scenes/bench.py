"""ScenesBench: held-out pairs, length-matched minimal edits, with the facts to check critiques by.

Balanced: whatever one pair's answers differ in, another pair has with the roles exchanged. "Two" is as
often right against "three" as wrong, so that nobody who only reads can do better than guess.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice

from vlrm_ray.scenes.language import HALLUCINATION, REASONING, Exchange, exchange, label, place
from vlrm_ray.scenes.pictures import store_picture
from vlrm_ray.scenes.world import SIGN, TEST, USUAL_COLOR, USUAL_WORD, Scene
from vlrm_ray.store.ledger import Ledger

HALLUCINATION_GROUP, REASONING_GROUP = "hallucination", "reasoning"
CALIBRATION = "calibration"
CALIBRATION_PAIRS = 400
"""Pairs per group, of a split of its own, on which the reward's temperature is fitted."""
_KINDS = {HALLUCINATION_GROUP: HALLUCINATION, REASONING_GROUP: REASONING}
_FIRST_SEED = {CALIBRATION: 30_000_000, "dev": 40_000_000, "test": 50_000_000}


@dataclass(frozen=True)
class BenchItem:
    """One pair of responses.

    Attributes:
        facts: the true entries of a critique's description.
        slots: what the two responses differ in (`Exchange.slots`).
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


def items(split: str, per_group: int, ledger: Ledger) -> list[BenchItem]:
    """`per_group` pairs of each group, kinds in equal shares; the same ones at every call."""
    found: list[BenchItem] = []
    for group, kinds in _KINDS.items():
        for index, (scene, said) in enumerate(asked(split, group, kinds, per_group)):
            found.append(
                BenchItem(
                    f"{split}-{group}-{index:05d}", group, said.kind, store_picture(scene, ledger), said.question,
                    said.rephrased, said.right.text, said.wrong.text, facts_of(scene), said.slots,
                )
            )  # fmt: skip
    return found


def kinds_of(group: str, count: int) -> list[str]:
    """The kinds of a group's first `count` pairs, without drawing their scenes."""
    return list(islice(cycle(_KINDS[group]), count))


def usual(slot: str) -> bool:
    """Whether a slot says what is usual in the prejudiced world."""
    habits = {USUAL_WORD, *(f"{color} {shape}" for shape, color in USUAL_COLOR.items())}
    return slot.removesuffix(" there") in habits


def prior_noun(slot: str) -> str:
    """What a slot that says what is usual is about: a shape, or a sign."""
    return SIGN if slot == USUAL_WORD else slot.removesuffix(" there").split()[-1]


def facts_of(scene: Scene) -> tuple[str, ...]:
    """Each thing with its place, as a description lists it."""
    return tuple(f"{label(t)} {place(t.cell)}" for t in scene.things)


@lru_cache(maxsize=8)
def asked(split: str, group: str, kinds: tuple[str, ...], count: int) -> tuple[tuple[Scene, Exchange], ...]:
    """Scenes with a question of the kind whose turn it is, balanced by kind and slots."""
    return tuple(_balanced(split, group, kinds, count))


def _balanced(split: str, group: str, kinds: tuple[str, ...], count: int) -> Iterator[tuple[Scene, Exchange]]:
    seed = _FIRST_SEED[split] + (5_000_000 if group == REASONING_GROUP else 0)
    taken: Counter[tuple[str, str, str]] = Counter()
    for kind in islice(cycle(kinds), count):
        while True:
            seed += 1
            scene = TEST.sample(seed)
            said = exchange(scene, random.Random(f"{split}-{group}-{seed}"), kind)
            if said is None:
                continue
            right, wrong = said.slots
            if taken[kind, right, wrong] <= taken[kind, wrong, right]:
                taken[kind, right, wrong] += 1
                yield scene, said
                break
