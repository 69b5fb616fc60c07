"""What words alone tell: a logistic regression on the words of responses, which sees no image.

Fitted to some pairs and tested on others, it shows how far wording gives away which response is the chosen one. A reward model
can learn the same from its training pairs, instead of looking at the image.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from vlrm_ray.evaluation.metrics import Metric, share

TextPair = tuple[str, str, str]
"""Question, chosen and rejected response."""
L2 = 1.0
"""Weight of the L2 penalty."""
MOST_FEATURES = 50_000
"""Features that are used, the most frequent ones."""
MOST_NAMED = 5
"""Words that are named for each side."""
LEAST_PAIRS = 50
"""With fewer pairs nothing is measured."""
_TIE = 1e-9
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")


@dataclass(frozen=True)
class WordModel:
    """Scores of responses by their words.

    Attributes:
        index: number of each feature: a word, two words in succession, or "first word of the question: word".
        weights: weight of each feature in the score, shape (features,).
    """

    index: dict[str, int]
    weights: NDArray[np.float64]

    @classmethod
    def fit(cls, pairs: Sequence[TextPair]) -> "WordModel":
        """Fit the score difference of chosen and rejected, without intercept and with an L2 penalty."""
        counts = Counter(f for question, *sides in pairs for side in sides for f in features_of(question, side))
        index = {feature: i for i, (feature, _) in enumerate(counts.most_common(MOST_FEATURES))}
        x = _differences(pairs, index)

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            odds = x @ weights
            penalized = float(np.logaddexp(0, -odds).sum() + L2 * weights @ weights / 2)
            return penalized, -(x.T @ (1 / (1 + np.exp(odds)))) + L2 * weights

        return cls(index, minimize(loss, np.zeros(len(index)), jac=True, method="L-BFGS-B").x)

    def prefers_chosen(self, pairs: Sequence[TextPair]) -> list[bool]:
        """Whether the chosen response of each pair has the higher score; false for a tie."""
        return [float(odds) > _TIE for odds in _differences(pairs, self.index) @ self.weights]

    def telling_words(self, pairs: Sequence[TextPair]) -> tuple[list[str], list[str]]:
        """The words that contribute most to the scores of some pairs: for the chosen side, and for the rejected one."""
        share_of_pairs = np.asarray(abs(_differences(pairs, self.index)).mean(axis=0)).ravel()
        weight = {f: self.weights[i] * share_of_pairs[i] for f, i in self.index.items() if ":" not in f}
        ranked = sorted(weight, key=lambda feature: (weight[feature], feature))
        chosen = [feature for feature in reversed(ranked[-MOST_NAMED:]) if weight[feature] > 0]
        return chosen, [feature for feature in ranked[:MOST_NAMED] if weight[feature] < 0]


@dataclass(frozen=True)
class WordsAlone:
    """How well words alone tell the sides of pairs apart.

    Attributes:
        accuracy: share of the pairs in which a model of words, fitted to pairs about other images, prefers the chosen response.
        chosen: words that speak for a chosen response, the strongest first.
        rejected: words that speak for a rejected one.
        longer: share of the pairs of unequal length, in characters, whose chosen response is the longer one.
    """

    accuracy: Metric
    chosen: list[str]
    rejected: list[str]
    longer: Metric

    def as_json(self) -> dict[str, object]:
        """As it is stored."""
        words = {"chosen": self.chosen, "rejected": self.rejected}
        return {"accuracy": self.accuracy.as_json(), "longer": self.longer.as_json(), **words}


def words_alone(pairs: Sequence[TextPair], images: Sequence[str]) -> WordsAlone | None:
    """Fit the model to the pairs of half of the images and test it on the others, both ways round.

    Args:
        pairs: the pairs.
        images: name of the image of each pair; an image's pairs are in the same half.

    Returns:
        None for fewer than `LEAST_PAIRS` pairs, or without two images.
    """
    place = {image: i for i, image in enumerate(sorted(set(images)))}
    halves = [[pair for pair, image in zip(pairs, images, strict=True) if place[image] % 2 == half] for half in (0, 1)]
    if len(pairs) < LEAST_PAIRS or not all(halves):
        return None
    hits = [hit for half in (0, 1) for hit in WordModel.fit(halves[half]).prefers_chosen(halves[1 - half])]
    longer = share([len(chosen) > len(rejected) for _, chosen, rejected in pairs if len(chosen) != len(rejected)])
    return WordsAlone(share(hits), *WordModel.fit(pairs).telling_words(pairs), longer)


def features_of(question: str, response: str) -> set[str]:
    """Words, pairs of successive words, and words with the first word of the question."""
    words, asked = _WORD.findall(response.lower()), _WORD.findall(question.lower())[:1]
    return {*words, *(f"{a} {b}" for a, b in pairwise(words)), *(f"{first}: {w}" for first in asked for w in words)}


def _differences(pairs: Sequence[TextPair], index: dict[str, int]) -> csr_matrix:
    """Features of the chosen minus those of the rejected response, shape (pairs, features)."""
    rows, columns, values = [], [], []
    for row, (question, chosen, rejected) in enumerate(pairs):
        good, bad = features_of(question, chosen), features_of(question, rejected)
        for features, value in ((good - bad, 1.0), (bad - good, -1.0)):
            known = [index[feature] for feature in features if feature in index]
            rows += [row] * len(known)
            columns += known
            values += [value] * len(known)
    return csr_matrix((values, (rows, columns)), shape=(len(pairs), len(index)))
