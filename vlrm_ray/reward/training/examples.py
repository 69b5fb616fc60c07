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
from typing import TypeVar

from vlrm_ray.config import Config
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.training.training_data import TrainingPair

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One sequence to learn, after the pair's image.

    Attributes:
        text: prompt, the user's turn.
        answer: text to learn, the assistant's turn.
        judged: whether the answer ends in a judgement, whose token gets a larger weight.
        weight: factor on the loss of all tokens of the answer.
    """

    text: str
    answer: str
    judged: bool
    weight: float = 1.0


def examples_of(pair: TrainingPair, config: Config) -> list[Example]:
    """The `examples_per_pair` training examples of a selected pair.

    No prompt contains the experts' evidence as a hint. Yes and No are balanced, because each pair gives one of each.
    """
    prompt = FORMATS[config.critic.format].prompt
    examples = [
        Example(prompt(pair.question, pair.chosen), pair.chosen_critique, True),
        Example(prompt(pair.question, pair.rejected), pair.rejected_critique, True),
    ]
    if config.train.response_weight > 0:
        examples.append(Example(pair.question, pair.chosen, False, config.train.response_weight))
    return examples


def examples_per_pair(config: Config) -> int:
    """Number of training examples of each selected pair."""
    return 3 if config.train.response_weight > 0 else 2


def pairs_per_batch(config: Config) -> int:
    """Pairs of an optimizer step, over all workers: enough for `train.batch` examples."""
    return -(-config.train.batch // examples_per_pair(config))


def global_batches(examples: Sequence[T], size: int, epoch: int, seed: int) -> list[list[T]]:
    """An epoch's batches over all workers, in an order that depends only on seed and epoch."""
    order = list(examples)
    random.Random(seed_of("epoch", seed, epoch)).shuffle(order)
    return [order[start : start + size] for start in range(0, len(order), size)]
