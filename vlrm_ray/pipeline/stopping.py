"""When a run ends: after a number of rounds, or, with `rounds: auto`, when a round no longer pays."""

from collections.abc import Iterator

from vlrm_ray.config import Config
from vlrm_ray.evaluation.gains import shows_gain
from vlrm_ray.pipeline import evaluators
from vlrm_ray.store.ledger import Ledger


def rounds_to_run(config: Config, ledger: Ledger) -> Iterator[int]:
    """The numbers of a run's rounds, from 1; each is followed by another one unless it is the last.

    With `rounds: auto` a round must be evaluated before the next number is taken.
    """
    number = 0
    while not is_last(config, ledger, number):
        number += 1
        yield number


def is_last(config: Config, ledger: Ledger, number: int) -> bool:
    """Whether a round is the last one: the configured number is reached, or with `rounds: auto` it has shown no gain.

    A round has shown a gain if the 95 % interval of the change in one of the main metrics (`gains.main_metrics`), against
    the round before, is above zero.
    """
    if config.rounds != "auto" or number in (0, config.max_rounds):
        return number >= config.most_rounds
    before, after = (ledger.result(round_, "evaluate") for round_ in (number - 1, number))
    return before is not None and after is not None and not shows_gain(before, after)


def is_finished(config: Config, ledger: Ledger) -> bool:
    """Whether the last round is published and, unless evaluation is switched off, all are evaluated."""
    measured = evaluators.is_measured(config)
    for number in (0, *range(1, config.most_rounds + 1)):
        if number and not ledger.result(number, "publish"):
            return False
        if measured and not ledger.result(number, "evaluate"):
            return False
        if is_last(config, ledger, number):
            return True
    return True
