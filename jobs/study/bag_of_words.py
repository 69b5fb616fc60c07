"""A text-only baseline: a bag-of-words classifier, trained on a run's own pairs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize

from vlrm_ray.evaluation.metrics import Metric, share

L2 = 1.0
"""Weight of the L2 penalty."""


def bag_of_words(train: Sequence[tuple[str, str, str]], test: Sequence[tuple[str, str, str]]) -> Metric:
    """Pair accuracy of a logistic regression on unigrams, bigrams, and words paired with the question's first word.

    The regression is fitted to the difference of the features of chosen and rejected, without intercept and with an
    L2 penalty.

    Args:
        train: (question, chosen, rejected) of the training pairs.
        test: (question, chosen, rejected) of the test pairs.

    Returns:
        Share of test pairs in which the chosen response has the higher score; ties count as wrong.
    """
    features = sorted({f for q, *sides in train for side in sides for f in _features(q, side)})
    index = {feature: i for i, feature in enumerate(features)}
    x = np.array([_vector(q, c, index) - _vector(q, r, index) for q, c, r in train]).reshape(-1, len(index))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ weights
        penalized = float(np.logaddexp(0, -odds).sum() + L2 * weights @ weights / 2)
        return penalized, -x.T @ (1 / (1 + np.exp(odds))) + L2 * weights

    weights = minimize(loss, np.zeros(len(index)), jac=True, method="L-BFGS-B").x
    return share([float((_vector(q, c, index) - _vector(q, r, index)) @ weights) > 1e-9 for q, c, r in test])


def _features(question: str, response: str) -> set[str]:
    words = response.lower().strip(" .").replace(".", "").replace(",", "").split()
    question_word = question.lower().split()[0] if question.strip() else ""
    return {*words, *(f"{a} {b}" for a, b in pairwise(words)), *(f"{question_word}: {w}" for w in words)}


def _vector(question: str, response: str, index: dict[str, int]) -> np.ndarray:
    vector = np.zeros(len(index))
    for feature in _features(question, response):
        if feature in index:
            vector[index[feature]] = 1.0
    return vector
