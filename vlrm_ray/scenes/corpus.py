"""The pre-training corpus of the tiny VLM: conversations about scenes.

In the last two phases of the training, conversations about images carry a prior: scenes are described as by the biased
captioner of `world.described_by_prior`. Text-only critiques, which reason from facts that the prompt or the beginning of
the answer gives, come from scenes without correlations. As in a large model, the language half reasons soundly; the bias is in perception.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from vlrm_ray.preferences.critique import COMPACT, format_critique
from vlrm_ray.scenes.language import KINDS, REASONING, Exchange, any_exchange, describe_grid, describe_scene
from vlrm_ray.scenes.world import BIASED_WORLD, COUNTED_WORLD, UNBIASED_WORLD, Scene
from vlrm_ray.types import NO, YES

ALL_KINDS = tuple(KINDS)
COUNTING = ("count", "count", "count", "compare")
"""Kinds of question by which counting is practised, each as often as it stands here."""
COUNTED_SHARE = 0.8
"""Share of the critiques from given descriptions that practise counting."""
LIST_GRID, LIST_OBJECTS = "List the grid.", "List the things."


@dataclass(frozen=True)
class Turn:
    """One user message and the assistant's answer.

    Attributes:
        user: the message.
        assistant: the answer.
        given: start of the answer that is given, and not learned.
    """

    user: str
    assistant: str
    given: str = ""


def conversation(
    scene: Scene, rng: random.Random, *, critiques: int, answers: int, judged: Scene | None = None
) -> list[Turn]:
    """Turns about one image in random order: lists of objects, answers, critiques and direct judgements.

    Args:
        scene: the scene as lists and answers describe it.
        rng: source of random numbers.
        critiques: number of critiques; with at least one, a direct judgement is added.
        answers: number of other questions.
        judged: the scene as critiques and judgements describe it; None for `scene`.
    """
    judged = judged or scene
    turns = [Turn(LIST_GRID, describe_grid(scene)), Turn(LIST_OBJECTS, f"{describe_scene(scene)}.")]
    turns = [rng.choice(turns)] if critiques and rng.random() < 0.5 else turns
    for _ in range(answers):
        exchange = any_exchange(scene, rng, ("existence",) if rng.random() < 0.3 else ALL_KINDS)
        turns.append(Turn(_question(exchange, rng), exchange.right.text))
    for _ in range(critiques):
        if rng.random() < 0.35:  # facts of another scene: teaches that given facts take precedence over the image
            turns.append(critique_turn(UNBIASED_WORLD.sample(rng.getrandbits(32)), rng, hinted=True))
        else:
            turns.append(critique_turn(judged, rng))
    if critiques:
        exchange = any_exchange(judged, rng, ALL_KINDS)
        right = rng.random() < 0.5
        response = (exchange.right if right else exchange.wrong).text
        turns.append(Turn(COMPACT.direct_prompt(_question(exchange, rng), response), YES if right else NO))
    rng.shuffle(turns)
    return turns


def critique_turn(
    scene: Scene, rng: random.Random, *, hinted: bool = False, given: bool = False, kinds: tuple[str, ...] = ()
) -> Turn:
    """A critique of a true or a false response, with equal probability.

    Args:
        scene: the scene that the critique describes.
        rng: source of random numbers.
        hinted: the facts are in the prompt too.
        given: the critique's description is given, and not learned.
        kinds: kinds of question; empty for any, those of two-step reasoning more often.
    """
    kinds = kinds or (REASONING if rng.random() < 0.35 else ALL_KINDS)
    exchange = any_exchange(scene, rng, kinds)
    response = exchange.right if rng.random() < 0.5 else exchange.wrong
    facts = describe_scene(scene)
    prompt = COMPACT.prompt(_question(exchange, rng), response.text, facts if hinted else None)
    checks = ", ".join(map(str, response.checks))
    critique = format_critique(facts, checks, response.true)
    return Turn(prompt, critique, COMPACT.prefix(facts) if given else "")


def text_only_critique(seed: int) -> Turn:
    """A critique without an image, from facts that the prompt gives, about a scene without correlations."""
    return critique_turn(UNBIASED_WORLD.sample(seed), random.Random(f"told-{seed}"), hinted=True)


def given_critique(seed: int) -> Turn:
    """A critique without an image that goes on from a given description, as in the rounds; most are about numbers."""
    rng = random.Random(f"given-{seed}")
    if rng.random() < COUNTED_SHARE:
        return critique_turn(COUNTED_WORLD.sample(seed), rng, given=True, kinds=COUNTING)
    return critique_turn(UNBIASED_WORLD.sample(seed), rng, given=True)


def text_only_answer(seed: int) -> Turn:
    """A question about a scene of `BIASED_WORLD` with its answer, learned without the image as a language prior."""
    rng = random.Random(f"guessed-{seed}")
    exchange = any_exchange(BIASED_WORLD.sample(seed), rng, ALL_KINDS)
    return Turn(_question(exchange, rng), exchange.right.text)


def texts(count: int) -> Iterator[str]:
    """Messages of `count` conversations of all kinds, to train the tokenizer on."""
    for seed in range(count):
        rng = random.Random(f"text-{seed}")
        for turn in conversation(UNBIASED_WORLD.sample(seed), rng, critiques=2, answers=3):
            yield turn.user
            yield turn.assistant


def _question(exchange: Exchange, rng: random.Random) -> str:
    return exchange.question if rng.random() < 0.6 else exchange.rephrased
