"""Training examples of a round, and how they are batched.

Each selected pair gives two critiques to learn and, with `train.response_weight` > 0, the chosen response:

    L = CE(critique+ and Yes | image, question, chosen)
      + CE(critique- and No  | image, question, rejected)
      + lambda * CE(chosen | image, question)             lambda = train.response_weight

This is the loss of VL-GenRM (arXiv 2506.13888). CE is the cross-entropy summed over the answer's tokens, in which the
Yes or No token has the weight `train.judgement_weight`; a batch's loss is divided by its total weight.

With `train.description_weight` > 0 the round's images are described too, as the experts saw them: the beginning of a critique
is learned, up to where it starts to check the response.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vlrm_ray.config import Config
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.training.training_data import Description, Item, TrainingPair

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One sequence to learn, after the pair's image.

    Attributes:
        text: prompt, the user's turn.
        answer: text to learn, the assistant's turn.
        judged: whether the answer ends in a judgement, whose token gets a larger weight.
        weight: factor on the loss of all tokens of the answer.
        continues: whether the answer is only a beginning, after which no end of the turn is learned.
    """

    text: str
    answer: str
    judged: bool
    weight: float = 1.0
    continues: bool = False


def examples_of(item: Item, config: Config) -> list[Example]:
    """The training examples of a selected pair (`examples_per_pair`), or the one of a description.

    No prompt contains the experts' evidence as a hint. A side that is not learned (`selection.sides: either`) has an example without
    an answer, which the collator leaves out. Pairs that are learned whole give one Yes and one No each; the others give more
    of the judgement that their writer is better at. `selection.sides: both` keeps Yes and No balanced.

    Args:
        item: the pair or description.
        config: configuration of the run.
    """
    return [_description(item, config)] if isinstance(item, Description) else _pair(item, config)


def _description(item: Description, config: Config) -> Example:
    critique_format = FORMATS[config.critic.format]
    text = critique_format.prompt(item.question, item.response)
    beginning = critique_format.description(item.evidence)
    return Example(text, beginning, False, config.train.description_weight, continues=True)


def _pair(pair: TrainingPair, config: Config) -> list[Example]:
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


def global_batches(pairs: Sequence[T], size: int, epoch: int, seed: int, others: Sequence[T] = ()) -> list[list[T]]:
    """An epoch's batches over all workers, in an order that depends only on seed and epoch.

    Their sizes differ by at most one, as each step weighs the same: a last batch of what is left would at worst be a single pair.

    Args:
        pairs: what the batches consist of.
        size: most pairs per batch.
        epoch: index of the epoch.
        seed: the seed.
        others: distributed evenly over the batches in addition, so that they do not change the number of steps.
    """
    order, added = list(pairs), list(others)
    random.Random(seed_of("epoch", seed, epoch)).shuffle(order)
    random.Random(seed_of("epoch", "others", seed, epoch)).shuffle(added)
    count = -(-len(order) // size)
    return [order[i::count] + added[i::count] for i in range(count)]


def dealt(batch: Sequence[int], sizes: Sequence[int], workers: int) -> list[list[int]]:
    """Each worker's share of a batch, so that all have about the same work: they wait for the one that has most.

    Args:
        batch: numbers of the items.
        sizes: size of each item by its number, above 0.
        workers: number of workers.

    Returns:
        The numbers of each worker's items, the largest first: each went to the worker that had least.
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [(0, worker) for worker in range(workers)]
    for number in sorted(batch, key=lambda number: -sizes[number]):
        load, worker = loads[0]
        shares[worker].append(number)
        heapq.heapreplace(loads, (load + sizes[number], worker))
    return shares
