"""What words alone tell: a logistic regression on the words of responses, which sees no image.

Fitted to some pairs and tested on others, it shows how far wording gives away which response is the chosen one. A reward model
can learn the same from its training pairs, instead of looking at the image.
"""

import re
import unicodedata
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
Sides = tuple[set[str], set[str]]
"""Features of the chosen response that the rejected one lacks, and the reverse."""
L2 = 1.0
"""Weight of the L2 penalty."""
MOST_FEATURES = 50_000
"""Features that are used, the most frequent ones."""
MOST_WORDS = 200
"""Words of a response that count, from its beginning."""
MOST_NAMED = 5
"""Words that are named for each side."""
LEAST_PAIRS = 50
"""With fewer pairs nothing is measured."""
TIE = 1e-9
"""Scores that differ by no more are equal."""
_SCRIPTS_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
"""Thai, Lao, Myanmar, Khmer, Japanese and Chinese: each character counts as a word."""
_INSIDE_WORDS = "'’-"


class _Separated(dict[int, str | int]):
    """Translation of a text: what belongs to no word becomes a space, and single characters that are words are set apart."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        if _SCRIPTS_WITHOUT_SPACES.match(character):
            self[code] = f" {character} "
        elif unicodedata.category(character)[0] in "LMN" or character in _INSIDE_WORDS:
            self[code] = code
        else:
            self[code] = " "
        return self[code]


_SEPARATED = _Separated()


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
    def fit(cls, pairs: Sequence[Sides]) -> "WordModel":
        """Fit the score difference of chosen and rejected, without intercept and with an L2 penalty."""
        counts = Counter(feature for sides in pairs for side in sides for feature in sorted(side))
        index = {feature: i for i, (feature, _) in enumerate(counts.most_common(MOST_FEATURES))}
        x = _matrix(pairs, index)

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            odds = x @ weights
            penalized = float(np.logaddexp(0, -odds).sum() + L2 * weights @ weights / 2)
            return penalized, -(x.T @ np.exp(-np.logaddexp(0, odds))) + L2 * weights

        return cls(index, minimize(loss, np.zeros(len(index)), jac=True, method="L-BFGS-B").x)

    def differences(self, pairs: Sequence[Sides]) -> list[float]:
        """By how much the chosen response of each pair has the higher score."""
        return [float(difference) for difference in _matrix(pairs, self.index) @ self.weights]

    def telling_words(self, pairs: Sequence[Sides]) -> tuple[list[str], list[str]]:
        """The words that contribute most to the scores of some pairs: for the chosen side, and for the rejected one."""
        share_of_pairs = np.asarray(abs(_matrix(pairs, self.index)).mean(axis=0)).ravel()
        weight = {f: self.weights[i] * share_of_pairs[i] for f, i in self.index.items() if ":" not in f}
        ranked = sorted(weight, key=lambda feature: (weight[feature], feature))
        chosen = [feature for feature in reversed(ranked[-MOST_NAMED:]) if weight[feature] > 0]
        return chosen, [feature for feature in ranked[:MOST_NAMED] if weight[feature] < 0]


@dataclass(frozen=True)
class WordsAlone:
    """How well words alone tell the sides of pairs apart.

    Attributes:
        accuracy: share of the pairs in which a model of words, fitted to pairs about other images, prefers the chosen response;
            of those that it cannot tell apart, half.
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
    sides = sides_of(pairs)
    halves = [[s for s, image in zip(sides, images, strict=True) if place[image] % 2 == half] for half in (0, 1)]
    if len(pairs) < LEAST_PAIRS or not all(halves):
        return None
    found = [d for half in (0, 1) for d in WordModel.fit(halves[half]).differences(halves[1 - half])]
    ties = sum(abs(d) <= TIE for d in found)
    hits = [d > TIE for d in found if abs(d) > TIE] + [i % 2 == 0 for i in range(ties)]
    longer = share([len(chosen) > len(rejected) for _, chosen, rejected in pairs if len(chosen) != len(rejected)])
    return WordsAlone(share(hits), *WordModel.fit(sides).telling_words(sides), longer)


def sides_of(pairs: Sequence[TextPair]) -> list[Sides]:
    """The features in which the responses of each pair differ."""
    features = [(features_of(question, good), features_of(question, bad)) for question, good, bad in pairs]
    return [(good - bad, bad - good) for good, bad in features]


def features_of(question: str, response: str) -> set[str]:
    """Words, pairs of successive words, and words with the first word of the question."""
    words, asked = _words(response)[:MOST_WORDS], _words(question)[:1]
    return {*words, *(f"{a} {b}" for a, b in pairwise(words)), *(f"{first}: {w}" for first in asked for w in words)}


def _words(text: str) -> list[str]:
    """Words in lower case, without the marks around them."""
    stripped = (word.strip(_INSIDE_WORDS) for word in text.lower().translate(_SEPARATED).split())
    return [word for word in stripped if word]


def _matrix(pairs: Sequence[Sides], index: dict[str, int]) -> csr_matrix:
    """Features of the chosen minus those of the rejected response, shape (pairs, features)."""
    places = [
        (row, index[feature], value)
        for row, sides in enumerate(pairs)
        for side, value in zip(sides, (1.0, -1.0), strict=True)
        for feature in side
        if feature in index
    ]
    rows, columns, values = zip(*places, strict=True) if places else ((), (), ())
    return csr_matrix((values, (rows, columns)), shape=(len(pairs), len(index)))
