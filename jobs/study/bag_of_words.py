"""A judge that only reads: a bag of words, trained on a run's own pairs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize

from vlrm_ray.evaluation.metrics import Metric, share

L2 = 1.0


def bag_of_words(train: Sequence[tuple[str, str, str]], test: Sequence[tuple[str, str, str]]) -> Metric:
    """Pair accuracy of a logistic regression on words and their pairs with the question; a tie is wrong.

    Each entry is (question, chosen, rejected). The regression separates chosen from rejected by the
    difference of their features, without intercept, with an L2 penalty.
    """
    features = sorted({f for q, *sides in train for side in sides for f in _features(q, side)})
    index = {feature: i for i, feature in enumerate(features)}
    x = np.array([_vector(q, c, index) - _vector(q, r, index) for q, c, r in train]).reshape(-1, len(index))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ weights
        value = float(np.logaddexp(0, -odds).sum() + L2 * weights @ weights / 2)
        return value, -x.T @ (1 / (1 + np.exp(odds))) + L2 * weights

    weights = minimize(loss, np.zeros(len(index)), jac=True, method="L-BFGS-B").x
    return share([float((_vector(q, c, index) - _vector(q, r, index)) @ weights) > 1e-9 for q, c, r in test])


def _features(question: str, response: str) -> set[str]:
    words = response.lower().strip(" .").replace(".", "").replace(",", "").split()
    first = question.lower().split()[0] if question.strip() else ""
    return {*words, *(f"{a} {b}" for a, b in pairwise(words)), *(f"{first}: {w}" for w in words)}


def _vector(question: str, response: str, index: dict[str, int]) -> np.ndarray:
    vector = np.zeros(len(index))
    for feature in _features(question, response):
        if feature in index:
            vector[index[feature]] = 1.0
    return vector
