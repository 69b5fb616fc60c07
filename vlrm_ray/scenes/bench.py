"""ScenesBench: held-out pairs, length-matched minimal edits, with the facts to check critiques by."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from vlrm_ray.ledger import Ledger
from vlrm_ray.scenes.export import picture_of
from vlrm_ray.scenes.language import HALLUCINATION, REASONING, exchange, label, place
from vlrm_ray.scenes.world import TEST, Scene

HALLUCINATION_GROUP, REASONING_GROUP = "hallucination", "reasoning"
_FIRST_SEED = {"dev": 40_000_000, "test": 50_000_000}


@dataclass(frozen=True)
class BenchItem:
    """One pair of responses; `facts` are the true entries of a critique's description."""

    item_id: str
    group: str
    kind: str
    image: str
    question: str
    rephrased: str
    chosen: str
    rejected: str
    facts: tuple[str, ...]


def items(split: str, per_group: int, ledger: Ledger) -> list[BenchItem]:
    """`per_group` pairs of each group, kinds in equal shares; the same ones at every call."""
    found: list[BenchItem] = []
    for group, kinds in ((HALLUCINATION_GROUP, HALLUCINATION), (REASONING_GROUP, REASONING)):
        for index, (scene, kind) in enumerate(_scenes(split, group, kinds, per_group)):
            said = exchange(scene, random.Random(f"{split}-{group}-{index}"), kind)
            assert said is not None
            found.append(
                BenchItem(
                    f"{split}-{group}-{index:05d}", group, kind, picture_of(scene, ledger), said.question,
                    said.rephrased, said.right.text, said.wrong.text, facts_of(scene),
                )
            )  # fmt: skip
    return found


def facts_of(scene: Scene) -> tuple[str, ...]:
    """Each thing with its place, as a description lists it."""
    return tuple(f"{label(t)} {place(t.cell)}" for t in scene.things)


def _scenes(split: str, group: str, kinds: tuple[str, ...], count: int) -> Iterator[tuple[Scene, str]]:
    """Scenes that offer a question of the kind whose turn it is."""
    seed = _FIRST_SEED[split] + (5_000_000 if group == REASONING_GROUP else 0)
    for index in range(count):
        kind = kinds[index % len(kinds)]
        while exchange(scene := TEST.sample(seed), random.Random(f"{split}-{group}-{index}"), kind) is None:
            seed += 1
        seed += 1
        yield scene, kind
