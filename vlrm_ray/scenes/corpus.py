"""The pre-training corpus of the tiny VLM: conversations about prejudiced pictures.

Text-only critiques come from the world without correlations: like a large model's language half,
the tiny one reasons soundly about facts that it is told. Its prejudice is in what it sees.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from vlrm_ray.preferences.critique import COMPACT, compose
from vlrm_ray.scenes.language import KINDS, REASONING, Exchange, any_exchange, grid, seen
from vlrm_ray.scenes.world import OPEN, PREJUDICED, Scene
from vlrm_ray.types import NO, YES

ASKED = tuple(KINDS)
LIST_GRID, LIST_THINGS = "List the grid.", "List the things."


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    user: str
    assistant: str


def conversation(
    scene: Scene, rng: random.Random, *, critiques: int, answers: int, judged: Scene | None = None
) -> list[Turn]:
    """Turns about one picture in random order: lists, answers, critiques, direct judgements.

    `judged` is the scene as it is taken to be in critiques and judgements, where that differs.
    """
    judged = judged or scene
    turns = [Turn(LIST_GRID, grid(scene)), Turn(LIST_THINGS, f"{seen(scene)}.")]
    turns = [rng.choice(turns)] if critiques and rng.random() < 0.5 else turns
    for _ in range(answers):
        said = any_exchange(scene, rng, ("existence",) if rng.random() < 0.3 else ASKED)
        turns.append(Turn(_ask(said, rng), said.right.text))
    for _ in range(critiques):
        if rng.random() < 0.35:  # told facts outrank the picture: learned where the two disagree
            turns.append(critique_turn(OPEN.sample(rng.getrandbits(32)), rng, hinted=True))
        else:
            turns.append(critique_turn(judged, rng))
    if critiques:
        said = any_exchange(judged, rng, ASKED)
        right = rng.random() < 0.5
        response = (said.right if right else said.wrong).text
        turns.append(Turn(COMPACT.direct_prompt(_ask(said, rng), response), YES if right else NO))
    rng.shuffle(turns)
    return turns


def critique_turn(scene: Scene, rng: random.Random, *, hinted: bool = False) -> Turn:
    """A critique of a right or wrong response, half of them each."""
    kinds = REASONING if rng.random() < 0.35 else ASKED
    said = any_exchange(scene, rng, kinds)
    response = said.right if rng.random() < 0.5 else said.wrong
    facts = seen(scene)
    prompt = COMPACT.prompt(_ask(said, rng), response.text, facts if hinted else None)
    checks = ", ".join(map(str, response.checks))
    return Turn(prompt, compose(facts, checks, response.true))


def told(seed: int) -> Turn:
    """A critique from told facts alone, in the world without correlations."""
    return critique_turn(OPEN.sample(seed), random.Random(f"told-{seed}"), hinted=True)


def guessed(seed: int) -> Turn:
    """An answer as the prejudiced world would have it, to be learned without the picture."""
    rng = random.Random(f"guessed-{seed}")
    said = any_exchange(PREJUDICED.sample(seed), rng, ASKED)
    return Turn(_ask(said, rng), said.right.text)


def texts(count: int) -> Iterator[str]:
    """Sample of everything that is ever said, to train the tokenizer on."""
    for seed in range(count):
        rng = random.Random(f"text-{seed}")
        for turn in conversation(OPEN.sample(seed), rng, critiques=2, answers=3):
            yield turn.user
            yield turn.assistant


def _ask(said: Exchange, rng: random.Random) -> str:
    return said.question if rng.random() < 0.6 else said.rephrased
