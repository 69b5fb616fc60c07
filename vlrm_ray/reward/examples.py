"""Training examples of a round, and how they are batched.

Each selected pair gives two critiques to learn and, with `train.response_weight` > 0, the chosen response:

    L = CE(critique+ and Yes | image, question, chosen)
      + CE(critique- and No  | image, question, rejected)
      + lambda * CE(chosen | image, question)             lambda = train.response_weight

This is the loss of VL-GenRM (arXiv 2506.13888). CE is the cross-entropy summed over the answer's tokens, in which the
Yes or No token has the weight `train.judgement_weight`; a batch's loss is divided by its total weight.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from vlrm_ray.config import Config
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.rows import Row


@dataclass(frozen=True)
class Example:
    """One sequence to learn.

    Attributes:
        text: prompt, the user's turn.
        answer: text to learn, the assistant's turn.
        image: URI of the image, None without one.
        judged: whether the answer ends in a judgement, whose token gets a larger weight.
        weight: factor on the loss of all tokens of the answer.
    """

    text: str
    answer: str
    image: str | None
    judged: bool
    weight: float = 1.0


def examples_of(rows: Sequence[Row], config: Config) -> list[Example]:
    """The training examples of a round's selected pairs.

    No prompt contains the experts' evidence as a hint. Yes and No are balanced, because each pair gives one of each.
    """
    critique_format = FORMATS[config.critic.format]
    examples = []
    for row in rows:
        prompt = row.prompt
        for pair in row.selected:
            plus = critique_format.prompt(prompt.question, pair.chosen)
            minus = critique_format.prompt(prompt.question, pair.rejected)
            examples.append(Example(plus, pair.chosen_critique, prompt.image, True))
            examples.append(Example(minus, pair.rejected_critique, prompt.image, True))
            if config.train.response_weight > 0:
                examples.append(
                    Example(prompt.question, pair.chosen, prompt.image, False, config.train.response_weight)
                )
    return examples


def global_batches(examples: Sequence[Example], size: int, epoch: int, seed: int) -> list[list[Example]]:
    """An epoch's batches over all workers, in an order that depends only on seed and epoch."""
    order = list(examples)
    random.Random(seed_of("epoch", seed, epoch)).shuffle(order)
    return [order[start : start + size] for start in range(0, len(order), size)]


def micro_batches(batch: Sequence[Example], rank: int, world: int, size: int) -> list[list[Example]]:
    """A worker's share of a batch, split into micro-batches of at most `size` examples.

    All workers get the same number of micro-batches. Some may be empty: their worker still has to take part in the
    collective operations.
    """
    share = list(batch[rank::world])
    count = -(-len(batch[::world]) // size)
    return [share[i * size : (i + 1) * size] for i in range(count)]
