"""How far an expert can be trusted: measured once on pictures whose truth is known, stored beside it.

`detector.pt` has `detector.calibration.json`, the folder `reader/` has `reader.calibration.json`.
What a calibration has not seen, it does not vouch for: a score that it never met is worth a coin
toss, and sizes, forms and blurs outside its ranges are told from those within.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import isotonic_regression
from scipy.stats import binomtest

from vlrm_ray.config import asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.experts.evidence import holds
from vlrm_ray.experts.geometry import iou
from vlrm_ray.types import Detection, Evidence

BINS = 20
"""Equal bins of scores from 0 to 1."""
MATCH = 0.5
"""A box is on a true object from this intersection over union on."""
TAIL = 0.001
"""Share of the calibration's values left out at each end of a range."""
Range = tuple[float, float]


@dataclass(frozen=True)
class Share:
    """`hits` out of `n` tries."""

    hits: int = 0
    n: int = 0

    @cached_property
    def lower(self) -> float:
        """Lower end of the one-sided 95 % interval (Wilson); 0 without tries."""
        return float(binomtest(self.hits, self.n).proportion_ci(0.9, method="wilson").low) if self.n else 0.0

    @property
    def smoothed(self) -> float:
        """Laplace's estimate, (hits + 1) / (n + 2): a half without tries."""
        return (self.hits + 1) / (self.n + 2)


@dataclass(frozen=True)
class ScoreCalibration:
    """By bin of score: how many answers were right, and how many were on something else."""

    right: tuple[Share, ...] = (Share(),) * BINS
    confused: tuple[Share, ...] = (Share(),) * BINS

    def probability(self, score: float) -> float:
        """Calibrated probability that an answer with this score is right."""
        return self._rising[_bin(score)]

    def confusion(self, score: float) -> float:
        """Probability that an answer with this score is on something else."""
        return self.confused[_bin(score)].smoothed

    @cached_property
    def _rising(self) -> list[float]:
        """Isotonic fit over the bins with data; a bin without takes the next lower one's value, the first a half."""
        met = [share for share in self.right if share.n]
        fitted = (
            iter(isotonic_regression([s.smoothed for s in met], weights=[s.n + 2 for s in met]).x) if met else iter(())
        )
        curve, last = [], 0.5
        for share in self.right:
            last = float(next(fitted)) if share.n else last
            curve.append(last)
        return curve


@dataclass(frozen=True)
class ClassCalibration:
    """One class: its objects found, its boxes right, and the range of its boxes' sizes and forms.

    Attributes:
        sides: height and width as shares of the image's longer side.
        aspect: width over height.
    """

    recall: Share
    precision: Share
    sides: Range
    aspect: Range


@dataclass(frozen=True)
class DetectorCalibration:
    """Calibration of a detector.

    Attributes:
        expert: fingerprint of the detector.
        colors: colours named rightly, of those named.
        blur, unexplained: ranges of the measures of `Quality`.
        crowd: most objects in one image.
    """

    expert: str
    images: int
    classes: dict[str, ClassCalibration]
    scores: ScoreCalibration
    colors: Share
    blur: Range
    unexplained: Range
    crowd: int


@dataclass(frozen=True)
class ReaderCalibration:
    """Calibration of a text reader: `recall` counts true words that were read exactly."""

    expert: str
    images: int
    recall: Share
    scores: ScoreCalibration


def measure_detector(
    expert: str, seen: Sequence[Evidence], true: Sequence[Evidence], confidence: float
) -> DetectorCalibration:
    """Calibrate on what a detector saw in some images, and what is there."""
    answers = [answer for s, t in zip(seen, true, strict=True) for answer in _answers(s, t)]
    firm = [(box, match) for box, match in answers if box.score >= confidence]
    things = [(thing, s.objects) for s, t in zip(seen, true, strict=True) for thing in t.objects]
    written = {thing for t in true for thing in t.objects if any(holds(thing, word) for word in t.words)}
    named = [(box, match) for box, match in firm if match and box.color and match.color and match not in written]
    sizes = {name: _sizes(name, seen) for name in sorted({thing.name for thing, _ in things})}
    return DetectorCalibration(
        expert=expert,
        images=len(seen),
        classes={
            name: ClassCalibration(
                recall=_share(_found(thing, objects) for thing, objects in things if thing.name == name),
                precision=_share(_right(box, match) for box, match in firm if box.name == name),
                sides=_range([side for size in sides for side in size]),
                aspect=_range([width / height for width, height in sides]),
            )
            for name, sides in sizes.items()
        },
        scores=_by_score([(b.score, _right(b, m), m is not None and m.name != b.name) for b, m in answers]),
        colors=_share(box.color == match.color for box, match in named if match),
        blur=_range([s.quality.blur for s in seen]),
        unexplained=_range([s.quality.unexplained for s in seen]),
        crowd=max((len(s.objects) for s in seen), default=0),
    )


def measure_reader(expert: str, seen: Sequence[Evidence], true: Sequence[Evidence]) -> ReaderCalibration:
    """Calibrate on what a reader read in some images, and what is written there."""
    pairs = list(zip(seen, true, strict=True))
    reads = [(w, [x.text for x in t.words]) for s, t in pairs for w in s.words]
    return ReaderCalibration(
        expert=expert,
        images=len(seen),
        recall=_share(w.text in [x.text for x in s.words] for s, t in pairs for w in t.words),
        scores=_by_score([(word.score, word.text in there, not there) for word, there in reads]),
    )


def calibration_file(model: str) -> Path:
    """Where the calibration of a checkpoint file or folder lies."""
    path = Path(asset_path(model))
    return path.with_name(f"{path.name if path.is_dir() else path.stem}.calibration.json")


T = TypeVar("T", DetectorCalibration, ReaderCalibration)


def load(model: str, kind: type[T]) -> T | None:
    """The calibration stored beside a model, None without one; raises UserError for a broken file."""
    path = calibration_file(model)
    if not path.is_file():
        return None
    try:
        found: T = TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path} is no calibration ({error.error_count()} errors); delete it, or measure again"
        ) from None
    return found


def check_expert(calibration: DetectorCalibration | ReaderCalibration, expert: str, key: str) -> None:
    """Raise UserError where a calibration is not that of the configured expert."""
    if calibration.expert != expert:
        raise UserError(
            f"{key}: the calibration beside the model was measured with another model or other settings; "
            "set these back, measure again (jobs/build_assets.py --measure-only), or delete the calibration"
        )


def save(model: str, calibration: DetectorCalibration | ReaderCalibration) -> Path:
    """Store a calibration beside its model."""
    path = calibration_file(model)
    path.write_bytes(TypeAdapter(type(calibration)).dump_json(calibration, indent=1) + b"\n")
    return path


def _answers(seen: Evidence, true: Evidence) -> Iterator[tuple[Detection, Detection | None]]:
    """Each box, also faint ones, with the true object that it lies on."""
    for box in (*seen.objects, *seen.faint):
        match = max(true.objects, key=lambda thing: iou(thing.box, box.box), default=None)
        yield box, match if match is not None and iou(match.box, box.box) >= MATCH else None


def _right(box: Detection, match: Detection | None) -> bool:
    return match is not None and match.name == box.name


def _found(thing: Detection, objects: Sequence[Detection]) -> bool:
    return any(o.name == thing.name and iou(o.box, thing.box) >= MATCH for o in objects)


def _sizes(name: str, seen: Sequence[Evidence]) -> list[tuple[float, float]]:
    boxes = [(o.box, max(s.width, s.height)) for s in seen for o in s.objects if o.name == name]
    return [((box[2] - box[0]) / longer, (box[3] - box[1]) / longer) for box, longer in boxes]


def _by_score(answers: Sequence[tuple[float, bool, bool]]) -> ScoreCalibration:
    groups = [[a for a in answers if _bin(a[0]) == b] for b in range(BINS)]
    return ScoreCalibration(
        tuple(_share(right for _, right, _ in group) for group in groups),
        tuple(_share(confused for _, _, confused in group) for group in groups),
    )


def _bin(score: float) -> int:
    return min(BINS - 1, max(0, int(score * BINS)))


def _share(hits: Iterator[bool]) -> Share:
    found = list(hits)
    return Share(sum(found), len(found))


def _range(values: Sequence[float]) -> Range:
    if not values:
        return 0.0, 0.0
    low, high = np.quantile(values, (TAIL, 1 - TAIL))
    return round(float(low), 5), round(float(high), 5)
