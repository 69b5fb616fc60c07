"""Tables of measured probabilities: how often is a claim true when its evidence is of a given strength?

The *strength* of the evidence for a claim is a number from 0 to 1, such as the highest score of a box of the claimed class; see
`strengths.py`. `claim_measurement.py` asks about labelled images claims whose truth is known, and counts in a `ClaimTable` the
strengths of the true and of the false ones. From these two distributions follow

- `probability(s)`: the probability that a claim with strength s is true, if true and false claims are equally frequent
  beforehand. It rises with s (isotonic regression: Ayer et al. 1955; for calibration: Zadrozny and Elkan 2002);
- `supports(s, stated)` and `contradicts(s, stated)`: whether claims of at least (at most) this strength are true (false)
  with a stated probability, by that curve at s, and for all of them together also by the bounds of their Wilson intervals (`_Z`).

So a faint box is weak evidence of a measured strength, and an image without a box is evidence of absence, as strong as the
detector's measured misses allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter

from vlrm_ray.experts.score_calibration import ScoreCalibration, wilson_bound

_Z = 1.163
"""Each of two bounds is one-sided at 88 % (1.163 standard errors): that both fail at once is then as unlikely as that one
fails that is one-sided at 95 % (1.645, which is 1.163 times the square root of 2)."""
BINS = 100
"""Number of equal bins of strengths above 0; strength 0 has a bin of its own."""
SEEN_OBJECTS = 1
"""Of a class with fewer objects in images of the kind that is judged, absence is never concluded."""
MIN_CLAIMS = 20
"""A table decides nothing with fewer true or fewer false claims."""
Counts = tuple[float, ...]
"""Numbers of claims by bin of their strength."""


def strength_bin(strength: float) -> int:
    """Index of the bin of a strength: 0 for 0, else 1 to `BINS`."""
    return 0 if strength <= 0 else 1 + min(BINS - 1, int(strength * BINS))


@dataclass(frozen=True)
class ClaimTable:
    """Strengths of the evidence for true and for false claims.

    Attributes:
        true: number of true claims in each of the `BINS` + 1 bins.
        false: number of false claims in each bin.
        repeats: mean number of true claims that rest on the same object, such as a cut-out that was pasted into several images.
            They count once in the bounds.
        false_repeats: the same for false claims: with few things to be seen in many images, few were tried that may be taken for others.
    """

    true: Counts = (0,) * (BINS + 1)
    false: Counts = (0,) * (BINS + 1)
    repeats: float = 1.0
    false_repeats: float = 1.0

    @classmethod
    def of(
        cls, answers: Sequence[tuple[float, bool]], repeats: float = 1.0, false_repeats: float = 1.0
    ) -> "ClaimTable":
        """Table of claims, each given by its strength and whether it is true; for `repeats` see the class."""
        counts = [[0] * (BINS + 1), [0] * (BINS + 1)]
        for strength, is_true in answers:
            counts[is_true][strength_bin(strength)] += 1
        return cls(tuple(counts[True]), tuple(counts[False]), repeats, false_repeats)

    @property
    def measured(self) -> bool:
        """Whether there are enough claims of both kinds."""
        return round(min(sum(self.true) / self.repeats, sum(self.false) / self.false_repeats), 6) >= MIN_CLAIMS

    def probability(self, strength: float) -> float:
        """Probability that a claim with this strength is true."""
        return self._curve[strength_bin(strength)]

    def supports(self, strength: float, stated: float) -> bool:
        """Whether claims with at least this strength are true with a stated probability."""
        b = strength_bin(strength)
        return self.measured and self._curve[b] >= stated and self._upper_tail[b] >= stated

    def contradicts(self, strength: float, stated: float) -> bool:
        """Whether claims with at most this strength are false with a stated probability."""
        b = strength_bin(strength)
        return self.measured and 1 - self._curve[b] >= stated and self._lower_tail[b] >= stated

    @cached_property
    def _curve(self) -> list[float]:
        """Probability of each bin. A bin without claims has the mean of the nearest bins with claims on both sides."""
        from scipy.optimize import isotonic_regression  # here, since the import takes longer than most stages' start

        all_true, all_false = max(1, sum(self.true)), max(1, sum(self.false))
        filled = [b for b in range(BINS + 1) if self.true[b] or self.false[b]]
        if not filled:
            return [0.5] * (BINS + 1)
        likelihoods = [(self.true[b] / all_true, self.false[b] / all_false) for b in filled]
        fitted = isotonic_regression([t / (t + f) for t, f in likelihoods], weights=[t + f for t, f in likelihoods])
        values: dict[int, float] = {}
        for _, group in groupby(zip(filled, fitted.x.round(9).tolist(), strict=True), key=itemgetter(1)):
            block = [b for b, _ in group]
            t = (sum(self.true[b] for b in block) + self.repeats / 2) / (all_true + self.repeats)
            f = (sum(self.false[b] for b in block) + self.false_repeats / 2) / (all_false + self.false_repeats)
            values |= dict.fromkeys(block, t / (t + f))
        return _rising(_filled_up(values))

    @cached_property
    def _upper_tail(self) -> list[float]:
        return _bounds(self.true, self.false, self.repeats, self.false_repeats)

    @cached_property
    def _lower_tail(self) -> list[float]:
        return _bounds(self.false[::-1], self.true[::-1], self.false_repeats, self.repeats)[::-1]


def _bounds(right: Counts, wrong: Counts, right_repeats: float, wrong_repeats: float) -> list[float]:
    """Lower bound, for each bin, of the share of right claims among those from this bin, or from a weaker one, on.

    Claims of greater strength are right at least as often, so a bin never has a smaller bound than a weaker one.
    """
    bounds = list[float]()
    for b in range(len(right)):
        hit = wilson_bound(sum(right[b:]) / right_repeats, sum(right) / right_repeats, -_Z)
        miss = wilson_bound(sum(wrong[b:]) / wrong_repeats, sum(wrong) / wrong_repeats, _Z)
        bounds.append(max(hit / (hit + miss) if hit + miss > 0 else 0.0, bounds[-1] if bounds else 0.0))
    return bounds


def _filled_up(values: dict[int, float]) -> list[float]:
    bins, filled = sorted(values), []
    for b in range(BINS + 1):
        below = next((values[k] for k in reversed(bins) if k <= b), values[bins[0]])
        above = next((values[k] for k in bins if k >= b), values[bins[-1]])
        filled.append((below + above) / 2)
    return filled


def _rising(values: Sequence[float]) -> list[float]:
    rising, highest = [], 0.0
    for value in values:
        highest = max(highest, value)
        rising.append(round(highest, 6))
    return rising


def broader_group(classes: int) -> str:
    """Group of the broader nouns that include some number of classes: "2", "4" or "8", of at least so many."""
    return str(max(least for least in (2, 4, 8) if least <= max(2, classes)))


@dataclass(frozen=True)
class DetectorClaims:
    """How often claims about objects are true by the strength of their evidence.

    Attributes:
        stated: a claim is decided if the verdict is right with this probability.
        images: number of images with an object of a class, for each class that was labelled and that the detector reports. Only
            images like those whose claims are judged are counted: see `LabelledEvidence.typical`.
        seen: number of different objects of each of these classes in these images. A cut-out in fifty images is one object.
        objects: existence of an object, for each class.
        any_object: the same for all classes together.
        pooled: classes with few objects: most true claims in their tables are those of all classes together.
        broader: existence of an object that a broader noun means, such as "animal", by the number of classes that it includes: see
            `broader_group`. The more classes, the more often one of them has a wrong box.
        rivalled: existence, where a box of a related class has a higher score than those of the claimed class.
        boxes: probability that a box shows one object of its class that no better box shows, by score.
        missed: number of objects of a class that no box shows, by the number of objects that the boxes show (rounded).
        counts: number of objects.
        more: whether there are more objects than a number.
        fewer: whether there are fewer objects than a number.
        comparisons: which of two classes has more objects.
        relations: spatial relations between objects that were found, by name; "" for all together.
        colors: color of an object that was found.
    """

    stated: float
    images: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    objects: dict[str, ClaimTable] = field(default_factory=dict)
    any_object: ClaimTable = ClaimTable()
    pooled: tuple[str, ...] = ()
    broader: dict[str, ClaimTable] = field(default_factory=dict)
    rivalled: ClaimTable = ClaimTable()
    boxes: ScoreCalibration = field(default_factory=ScoreCalibration)
    missed: tuple[Counts, ...] = ()
    counts: ClaimTable = ClaimTable()
    more: ClaimTable = ClaimTable()
    fewer: ClaimTable = ClaimTable()
    comparisons: ClaimTable = ClaimTable()
    relations: dict[str, ClaimTable] = field(default_factory=dict)
    colors: ClaimTable = ClaimTable()


@dataclass(frozen=True)
class ReaderClaims:
    """How often claims about text are true by the strength of their evidence.

    Attributes:
        stated: as in `DetectorClaims`.
        texts: by the height of the tallest text that was read: see `HEIGHTS` in `text_matching.py`; "" if none was read.
    """

    stated: float
    texts: dict[str, ClaimTable] = field(default_factory=dict)
