"""Temperature scaling (Guo et al. 2017): p(Yes) as often right as it says, in one number.

Dividing the log-odds by a temperature changes no order, so no pair's outcome.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

FILE = "vlrm_calibration.json"
"""Beside a published model's weights: {temperature, n, split}."""
LARGEST_LOG_ODDS = 30.0
_RANGE = (math.log(0.05), math.log(200.0))


def log_odds(yes: float, no: float) -> float:
    """log(p(Yes) / p(No)), bounded; 0, which says nothing, without either."""
    if yes <= 0 and no <= 0:
        return 0.0
    odds = math.log(max(yes, 1e-300)) - math.log(max(no, 1e-300))
    return max(-LARGEST_LOG_ODDS, min(LARGEST_LOG_ODDS, odds))


def calibrated(yes: float, no: float, temperature: float) -> float:
    """The reward at a temperature; 1 gives p(Yes) / (p(Yes) + p(No))."""
    return 1 / (1 + math.exp(-log_odds(yes, no) / temperature))


def fit_temperature(odds: Sequence[float], right: Sequence[bool]) -> float:
    """The temperature of the least negative log-likelihood; 1 where there is nothing to fit to."""
    if not odds or all(right) or not any(right):
        return 1.0
    signed = np.asarray(odds, float) * np.where(np.asarray(right), 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / math.exp(log_temperature)).mean())

    return round(math.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x), 4)
