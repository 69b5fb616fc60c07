"""A measured proportion with its confidence bound, and the accuracy of answers by their score."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

SCORE_BINS = 20
"""Number of equal bins of scores between 0 and 1."""

_Z95 = NormalDist().inv_cdf(0.95)


def wilson_bound(hits: float, n: float, z: float) -> float:
    """Bound of a proportion by its score interval (Wilson 1927): the lower one for a negative z; the worst one without trials.

    In closed form, because importing scipy.stats takes longer than most stages' start.
    """
    if n <= 0:
        return 0.0 if z < 0 else 1.0
    share = hits / n
    center, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(1.0, max(0.0, (center + spread) / (1 + z * z / n)))


@dataclass(frozen=True)
class Proportion:
    """A measured proportion: `hits` successes in `n` trials."""

    hits: int = 0
    n: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> "Proportion":
        """Proportion of the outcomes that are true."""
        values = list(outcomes)
        return cls(sum(values), len(values))

    @cached_property
    def lower_bound(self) -> float:
        """Lower bound of the one-sided 95 % confidence interval; 0 without trials."""
        return wilson_bound(self.hits, self.n, -_Z95)

    @property
    def smoothed(self) -> float:
        """Estimate by Laplace's rule of succession, (hits + 1) / (n + 2); 0.5 without trials."""
        return (self.hits + 1) / (self.n + 2)


@dataclass(frozen=True)
class ScoreCalibration:
    """Accuracy of an expert's answers by score, for `SCORE_BINS` bins.

    Attributes:
        right: answers that were right.
        confused: answers that belong to an object of another class (OCR: words read in an image without text).
    """

    right: tuple[Proportion, ...] = (Proportion(),) * SCORE_BINS
    confused: tuple[Proportion, ...] = (Proportion(),) * SCORE_BINS

    def probability(self, score: float) -> float:
        """Calibrated probability that an answer with this score is right."""
        return self._curve[score_bin(score)]

    def confusion(self, score: float) -> float:
        """Probability that an answer with this score belongs to an object of another class."""
        return self.confused[score_bin(score)].smoothed

    @cached_property
    def _curve(self) -> list[float]:
        """Probability of each bin: isotonic regression over the bins with data, so that it rises with the score.

        A bin without data takes the value of the next lower bin with data, or 0.5 if there is none.
        """
        from scipy.optimize import isotonic_regression

        filled = [share for share in self.right if share.n]
        fitted = (
            iter(isotonic_regression([s.smoothed for s in filled], weights=[s.n + 2 for s in filled]).x)
            if filled
            else iter(())
        )
        curve, last = [], 0.5
        for share in self.right:
            last = float(next(fitted)) if share.n else last
            curve.append(last)
        return curve


def score_bin(score: float) -> int:
    """Index of the bin of a score."""
    return min(SCORE_BINS - 1, max(0, int(score * SCORE_BINS)))
