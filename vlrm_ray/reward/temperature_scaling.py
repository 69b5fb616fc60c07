"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): calibrates the reward with one parameter.

    calibrated reward = sigmoid(log(p(Yes) / p(No)) / temperature)

The temperature does not change the order of rewards, so it changes no pair's outcome. A prior on its logarithm, standard
normal, keeps it finite and near 1 where few critiques are known, or all are judged rightly.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from vlrm_ray.errors import UserError

FILE = "vlrm_calibration.json"
"""File beside a published model's weights, with the keys temperature, n and split."""
LARGEST_LOG_ODDS = 30.0
"""Bound on the absolute log-odds."""
_RANGE = (math.log(0.05), math.log(200.0))


def log_odds(yes: float, no: float) -> float:
    """log(p(Yes) / p(No)), clipped to +-`LARGEST_LOG_ODDS`; 0 if both probabilities are 0."""
    if yes <= 0 and no <= 0:
        return 0.0
    odds = math.log(max(yes, 1e-300)) - math.log(max(no, 1e-300))
    return max(-LARGEST_LOG_ODDS, min(LARGEST_LOG_ODDS, odds))


def calibrated_reward(yes: float, no: float, temperature: float) -> float:
    """The reward at a temperature, between 0 and 1; temperature 1 gives p(Yes) / (p(Yes) + p(No))."""
    return 1 / (1 + math.exp(-log_odds(yes, no) / temperature))


def read_temperature(folder: Path) -> float | None:
    """The temperature of a published model; None if it was not evaluated.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        temperature = float(json.loads(file.read_text())["temperature"])
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature {temperature}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: expected JSON with a temperature above 0, got {error!r}; restore the file, or remove it to leave "
            "rewards uncalibrated"
        ) from None
    return temperature


def fit_temperature(odds: Sequence[float], labels: Sequence[bool]) -> float:
    """Fit the temperature on held-out critiques: the maximum of the posterior under the prior.

    Args:
        odds: log-odds of each critique.
        labels: for each critique whether Yes is the correct judgement.

    Returns:
        The temperature; 1 without data or if all labels are equal.
    """
    if not odds or all(labels) or not any(labels):
        return 1.0
    signed = np.asarray(odds, float) * np.where(np.asarray(labels), 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / math.exp(log_temperature)).sum()) + log_temperature**2 / 2

    return round(math.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x), 4)
