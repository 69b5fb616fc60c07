"""What a round's selected pairs teach: two critiques and the chosen response each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from vlrm_ray.config import Config
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.rows import Row


@dataclass(frozen=True)
class Example:
    """One sequence to learn: `answer` given `text` and the image.

    Attributes:
        judged: the answer ends in a judgement, whose token weighs more.
        weight: factor on the loss of all its tokens.
    """

    text: str
    answer: str
    image: str | None
    judged: bool
    weight: float = 1.0


def examples_of(rows: Sequence[Row], config: Config) -> list[Example]:
    """L = CE(critique, Yes | chosen) + CE(critique, No | rejected) + lambda CE(chosen | prompt).

    Loss of VL-GenRM (arXiv 2506.13888). The experts' hint is not part of any text; Yes and No are
    balanced because each pair brings one of both.
    """
    wording = FORMATS[config.critic.format]
    examples = []
    for row in rows:
        prompt = row.prompt
        for pair in row.selected:
            plus = wording.prompt(prompt.question, pair.chosen)
            minus = wording.prompt(prompt.question, pair.rejected)
            examples.append(Example(plus, pair.chosen_critique, prompt.image, True))
            examples.append(Example(minus, pair.rejected_critique, prompt.image, True))
            if config.train.response_weight > 0:
                examples.append(
                    Example(prompt.question, pair.chosen, prompt.image, False, config.train.response_weight)
                )
    return examples


def global_batches(examples: Sequence[Example], size: int, epoch: int, seed: int) -> list[list[Example]]:
    """The epoch's batches over all workers, in an order that follows from seed and epoch."""
    order = list(examples)
    random.Random(seed_of("epoch", seed, epoch)).shuffle(order)
    return [order[start : start + size] for start in range(0, len(order), size)]


def micro_batches(batch: Sequence[Example], rank: int, world: int, size: int) -> list[list[Example]]:
    """A worker's share of a batch, cut for memory; each worker gets the same number of cuts.

    A worker with nothing left gets an empty cut: it still takes part in the collectives.
    """
    share = list(batch[rank::world])
    cuts = -(-len(batch[::world]) // size)
    return [share[i * size : (i + 1) * size] for i in range(cuts)]
