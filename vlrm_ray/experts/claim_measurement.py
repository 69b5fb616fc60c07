"""Measures how often claims are true by the strength of their evidence, on labelled images; see `claim_tables.py`.

For each image, claims are asked whose truth follows from the labels:

    object      each class, whether it is in the image or not; and each noun that includes several classes
    count       the true number of each class in the image, and false ones close to it; which of two classes has more objects
    relation    the relations that hold between the labelled boxes, and those that fail; the side of the image that an object is on
    attribute   the labelled color of an object, and the other colors that occur in the labels

First it is measured which boxes are right and how many objects no box shows, because the strengths of counts rest on them.
Relations and colors are asked of the boxes that show labelled objects: whether a box shows one is judged by the tables of objects.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vlrm_ray.experts.claim_tables import (
    BINS,
    MIN_CLAIMS,
    ClaimTable,
    Counts,
    DetectorClaims,
    broader_group,
    strength_bin,
)
from vlrm_ray.experts.colors import overlap
from vlrm_ray.experts.geometry import Box, iou, spatial_relation
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.score_calibration import SCORE_BINS, Proportion, ScoreCalibration, score_bin
from vlrm_ray.experts.strengths import COMPARISONS, FOUND_GROUPS, IMAGE, MOST_COUNTED, SIDES, Strengths, found_group
from vlrm_ray.experts.strengths import Box as StrengthBox
from vlrm_ray.types import Evidence, Noun

MIN_IMAGES = 20
"""Weight of the objects of all classes in the table of each class, in objects."""
MATCH_IOU = 0.5
"""A box shows a labelled object from this intersection over union on."""
RELATIONS = ("left_of", "right_of", "above", "below", "next_to", "in", "on", "under")
"""Relations whose truth follows from boxes."""


@dataclass(frozen=True)
class LabelledEvidence:
    """What the experts saw in an image, and what is there.

    Attributes:
        detected: what the experts saw.
        truth: the labelled boxes of objects, and the labelled texts.
        counts: number of objects of each class in the image, with and without a labelled box; 0 where they were not counted.
        absent: classes that are not in the image.
        colors: colors of a class's objects, for classes whose objects all have a known color.
        objects: names of each class's objects, if the same ones can be seen in several images.
        others: nouns of objects that belong to no class.
        background: name of what is behind the objects, if it can be seen in several images.
        crowded: classes of which there are more objects than are labelled, so that their number is not known.
        typical: whether the image is like those whose claims are to be judged. Others only add to the figures of relations
            and colors, which depend less on the kind of images.
    """

    detected: Evidence
    truth: Evidence
    counts: Mapping[str, int]
    absent: frozenset[str]
    colors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    objects: Mapping[str, frozenset[str]] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    background: str = ""
    crowded: frozenset[str] = frozenset()
    typical: bool = True

    @classmethod
    def of(
        cls, detected: Evidence, truth: Evidence, classes: Iterable[str], crowded: frozenset[str] = frozenset()
    ) -> "LabelledEvidence":
        """An image in which each object of the classes has a labelled box, except for the crowded ones."""
        counts = Counter(o.name for o in truth.objects)
        colors = {name: frozenset(o.color for o in truth.objects if o.name == name) for name in counts}
        known = {name: words for name, words in colors.items() if "" not in words}
        absent = frozenset(classes) - counts.keys() - crowded
        return cls(detected, truth, counts, absent, known, crowded=crowded)

    @property
    def placed(self) -> bool:
        """Whether all objects have a labelled box."""
        return len(self.truth.objects) == sum(self.counts.values()) and all(self.counts.values())

    def measured(self, known: DetectorClaims) -> list[str]:
        """The classes in the image that are measured."""
        return sorted(self.counts.keys() & known.images.keys())


def measure_object_claims(images: Sequence[LabelledEvidence], stated: float, min_images: int) -> DetectorClaims:
    """Tables for claims about objects.

    Args:
        images: labelled images.
        stated: probability with which verdicts are to be right.
        min_images: weight of the objects of all classes in the table of each class, in objects.
    """
    typical, repeats = [image for image in images if image.typical], _repeats(images)
    classes = _labelled_classes(images)
    known = DetectorClaims(stated, classes, {name: _different_objects(typical, name) for name in classes})
    known = replace(known, boxes=_by_score(answer for image in typical for answer in _box_answers(image, known)))
    known = replace(known, missed=_missed(typical, known))
    known = _with_objects(known, typical, min_images)
    counts = [a for i, image in enumerate(typical) for a in _count_answers(image, known, i)]
    tables = {kind: [(s, true) for k, s, true in counts if k == kind] for kind in ("exact", "more", "fewer")}
    words = sorted({word for image in images for colors in image.colors.values() for word in colors})
    comparisons = [a for i, image in enumerate(typical) for a in _comparison_answers(image, known, i)]
    colors = [a for image in images for a in _color_answers(image, known, words)]
    relations = [a for image in images if image.placed for a in _relation_answers(image, known)]
    of_numbers = _repeats(typical)
    return replace(
        known,
        counts=ClaimTable.of(tables["exact"], of_numbers, of_numbers),
        more=ClaimTable.of(tables["more"], of_numbers, of_numbers),
        fewer=ClaimTable.of(tables["fewer"], of_numbers, of_numbers),
        comparisons=ClaimTable.of(comparisons, of_numbers, of_numbers),
        colors=ClaimTable.of(colors, _repeats_of_colors(colors, images, known)),
        relations={
            name: ClaimTable.of([(s, true) for relation, s, true in relations if name in ("", relation)], repeats)
            for name in ("", *RELATIONS)
        },
    )


def _labelled_classes(images: Sequence[LabelledEvidence]) -> dict[str, int]:
    """The labelled classes that the detector reports, with the number of typical images that each is in."""
    occurring = Counter(name for image in images if image.typical for name in image.counts)
    labelled = {name for image in images for name in (*image.counts, *image.absent)}
    reported = {d.name for image in images for d in (*image.detected.objects, *image.detected.faint)}
    return {name: occurring[name] for name in sorted(labelled & reported)}


def _repeats(images: Sequence[LabelledEvidence]) -> float:
    """In how many images an object is seen, on average."""
    seen = [name for image in images for names in image.objects.values() for name in names]
    return max(1.0, len(seen) / max(1, len(set(seen))))


def _repeats_of_false_alarms(images: Sequence[LabelledEvidence]) -> float:
    """How many images there are for each of the different things in them that may be taken for an object that is not there.

    These are the named objects and backgrounds. An image without them is another one in each case.
    """
    things = set[str]()
    for number, image in enumerate(images):
        named = {name for names in image.objects.values() for name in names}
        things |= named | image.others | {image.background} if image.background else named or {str(number)}
    return max(1.0, len(images) / max(1, len(things)))


def _different_objects(images: Sequence[LabelledEvidence], class_name: str) -> int:
    """Number of different objects of a class; objects without names are different in each image."""
    showing = [(i, image) for i, image in enumerate(images) if class_name in image.counts]
    return len({name for i, image in showing for name in image.objects.get(class_name) or {str(i)}})


def _repeats_of_colors(
    colors: Sequence[tuple[float, bool]], images: Sequence[LabelledEvidence], known: DetectorClaims
) -> float:
    """How many true claims about colors there are for each object whose color is known."""
    shown = {name for image in images for name in image.colors.keys() & known.images.keys()}
    colored = [[image for image in images if name in image.colors] for name in sorted(shown)]
    objects = sum(_different_objects(part, name) for part, name in zip(colored, sorted(shown), strict=True))
    return max(1.0, sum(true for _, true in colors) / max(1, objects))


def _with_objects(known: DetectorClaims, images: Sequence[LabelledEvidence], min_images: int) -> DetectorClaims:
    """Tables of the existence of objects.

    Few classes have many different objects, so a class's true claims are those about its own objects and, with the weight of
    `min_images` objects, those of all classes (partial pooling). Each object weighs the same, in however many images it is.
    So it is with false claims: that nothing in the labelled images looks like an orange does not show that hardly anything does.
    """
    answers = [(n, *answer) for n, image in enumerate(images) for answer in _object_answers(image, known)]
    alone = [(n, name, s, true) for n, name, s, rivalled, true in answers if not rivalled]
    strengths: dict[str, dict[str, list[float]]] = {name: {} for name in known.images}
    for n, name, s, true in alone:
        for shown in (images[n].objects.get(name) or {str(n)}) if true else ():
            strengths[name].setdefault(shown, []).append(s)
    own = {name: _by_object(objects.values()) for name, objects in strengths.items()}
    total = [sum(column) for column in zip(*own.values(), strict=True)] or [0.0] * (BINS + 1)
    prior = [min(1, min_images / max(1, sum(total))) * t for t in total]
    false = {n: ClaimTable.of([(s, False) for _, name, s, true in alone if name == n and not true]).false for n in own}
    together = ClaimTable.of([(s, False) for _, _, s, true in alone if not true])
    seen = _repeats_of_false_alarms(images)
    return replace(
        known,
        any_object=replace(together, true=tuple(total), false_repeats=seen),
        broader=_broader_tables(known, images, seen),
        rivalled=ClaimTable.of([(s, true) for _, _, s, rivalled, true in answers if rivalled], _repeats(images), seen),
        objects={
            name: ClaimTable(
                tuple(x + y for x, y in zip(own[name], prior, strict=True)),
                _with_other_classes(false[name], together.false, min_images * seen),
                false_repeats=seen,
            )
            for name in own
        },
        pooled=tuple(name for name in own if sum(own[name]) < min_images),
    )


def _with_other_classes(own: Counts, together: Counts, weight: float) -> Counts:
    """False claims about a class with those about the other classes, which weigh as much as so many; with too few own ones, these alone."""
    others = [t - o for t, o in zip(together, own, strict=True)]
    if sum(own) < MIN_CLAIMS or not sum(others):
        return own
    return tuple(o + min(1, weight / sum(others)) * x for o, x in zip(own, others, strict=True))


def _by_object(strengths: Iterable[Sequence[float]]) -> list[float]:
    """Number of objects by the bin of their strengths; one with several strengths counts in part for each."""
    numbers = [0.0] * (BINS + 1)
    for found in strengths:
        for s in found:
            numbers[strength_bin(s)] += 1 / len(found)
    return numbers


def _broader_tables(
    known: DetectorClaims, images: Sequence[LabelledEvidence], false_repeats: float
) -> dict[str, ClaimTable]:
    """Tables of `DetectorClaims.broader`. An object counts once in the bounds, in however many nouns and images it is."""
    nouns = noun_hierarchy().broader_nouns(known.images)
    answers: dict[str, list[tuple[float, bool]]] = {}
    shown: dict[str, set[str]] = {}
    for number, image in enumerate(images):
        strengths = Strengths(image.detected, known)
        for noun, classes in nouns.items():
            true = not classes.isdisjoint(image.counts) or any(noun_hierarchy().includes(noun, o) for o in image.others)
            if true or classes <= image.absent:
                group = broader_group(len(classes))
                answers.setdefault(group, []).append((strengths.object(noun)[0], true))
                names = {name for names in image.objects.values() for name in names} or {str(number)}
                shown.setdefault(group, set()).update(names if true else ())
    return {
        group: ClaimTable.of(found, max(1.0, sum(true for _, true in found) / max(1, len(shown[group]))), false_repeats)
        for group, found in sorted(answers.items())
    }


def _object_answers(image: LabelledEvidence, known: DetectorClaims) -> Iterator[tuple[str, float, bool, bool]]:
    """For each class that is known to be in the image or not: strength, whether it is rivalled, and the truth."""
    strengths = Strengths(image.detected, known)
    for name in known.images:
        if name in image.counts or name in image.absent:
            yield (name, *strengths.object(name), name in image.counts)


def _box_answers(image: LabelledEvidence, known: DetectorClaims) -> Iterator[tuple[float, bool]]:
    """Score of each box, and whether it is the best box of an object of its class."""
    strengths = Strengths(image.detected, known)
    for name in known.images:
        if image.counts.get(name) or name in image.absent:
            yield from ((box.score, right) for box, right in _matched(strengths, name, image))


def _found(strengths: Strengths, name: str, image: LabelledEvidence) -> list[StrengthBox]:
    """The boxes that show the objects of a class, one for each."""
    return [box for box, right in _matched(strengths, name, image) if right]


def _matched(strengths: Strengths, name: str, image: LabelledEvidence) -> Iterator[tuple[StrengthBox, bool]]:
    """Each box of a class, best first, and whether it shows an object that no better box shows.

    Where the objects were counted but have no labelled boxes, as many of the best boxes are taken to show them.
    """
    left = [target for target in image.truth.objects if target.name == name]
    unplaced = image.counts.get(name, 0) - len(left)
    for box in sorted(strengths.boxes(Noun(name)), key=lambda b: -b.score):
        best = max(left, key=lambda target: iou(target.box, box.detection.box), default=None)
        if best is not None and iou(best.box, box.detection.box) >= MATCH_IOU:
            left.remove(best)
            yield box, True
        else:
            yield box, unplaced > 0
            unplaced -= 1


def _by_score(answers: Iterator[tuple[float, bool]]) -> ScoreCalibration:
    groups: list[list[bool]] = [[] for _ in range(SCORE_BINS)]
    for score, right in answers:
        groups[score_bin(score)].append(right)
    return ScoreCalibration(tuple(map(Proportion.of, groups)))


def _missed(images: Sequence[LabelledEvidence], known: DetectorClaims) -> tuple[tuple[int, ...], ...]:
    """See `DetectorClaims.missed`; measured for the classes of an image, and as many that are absent."""
    histograms = [[0] * (MOST_COUNTED + 1) for _ in range(FOUND_GROUPS)]
    for number, image in enumerate(images):
        strengths = Strengths(image.detected, known)
        for name in _counted(image, known, number):
            found = len(_found(strengths, name, image))
            expected = sum(box.probability for box in strengths.boxes(Noun(name)))
            missed = image.counts.get(name, 0) - found
            histograms[found_group(expected)][min(missed, MOST_COUNTED)] += 1
    return tuple(tuple(h) for h in histograms)


def _counted(image: LabelledEvidence, known: DetectorClaims, number: int) -> list[str]:
    """The counted classes of an image, and as many that are absent."""
    present = [name for name in image.measured(known) if image.counts[name] and name not in image.crowded]
    absent = sorted(image.absent & known.images.keys())
    return present + random.Random(number).sample(absent, min(len(absent), len(present)))


def _count_answers(image: LabelledEvidence, known: DetectorClaims, number: int) -> Iterator[tuple[str, float, bool]]:
    """Strength and truth of "exactly", "more than" and "fewer than" some number, for numbers close to the true one."""
    strengths = Strengths(image.detected, known)
    for name in _counted(image, known, number):
        n, numbers = image.counts.get(name, 0), strengths.numbers(Noun(name))
        for m in range(max(1, n - 2), min(MOST_COUNTED, n + 3)):
            yield "exact", numbers[m], m == n
            # a number is wrongly contradicted only if it is the true one, so no easier false claims are asked
            if m <= n:
                yield "more", sum(numbers[m + 1 :]), m < n
            if m >= n:
                yield "fewer", sum(numbers[:m]), m > n


def _comparison_answers(image: LabelledEvidence, known: DetectorClaims, number: int) -> Iterator[tuple[float, bool]]:
    strengths, counted = Strengths(image.detected, known), _counted(image, known, number)
    for a, b in ((a, b) for a in counted for b in counted if a != b):
        for name, compare in COMPARISONS.items():
            strength = strengths.comparison(name, Noun(a), Noun(b))
            if strength is not None:
                yield strength, compare(image.counts.get(a, 0), image.counts.get(b, 0))


def _relation_answers(image: LabelledEvidence, known: DetectorClaims) -> Iterator[tuple[str, float, bool]]:
    strengths, size = Strengths(image.detected, known), (image.truth.width, image.truth.height)
    boxes: dict[str, list[Box]] = {name: [] for name in image.measured(known) if name not in image.crowded}
    for o in image.truth.objects:
        boxes.get(o.name, []).append(o.box)
    found = {name: _found(strengths, name, image) for name in boxes}
    whole = strengths.whole_image()
    boxes, found = boxes | {IMAGE: [whole.detection.box]}, found | {IMAGE: [whole]}
    for a, b in ((a, b) for a in boxes for b in boxes if a not in (b, IMAGE)):
        for relation in SIDES if b == IMAGE else RELATIONS:
            answers = {spatial_relation(relation, x, y, *size) for x in boxes[a] for y in boxes[b]}
            strength = strengths.relation(relation, found[a], found[b])
            if strength is not None and ("holds" in answers or answers == {"fails"}):
                yield relation, strength, "holds" in answers


def _color_answers(
    image: LabelledEvidence, known: DetectorClaims, words: Collection[str]
) -> Iterator[tuple[float, bool]]:
    """Strength and truth of each color word; words for colors that overlap with the true one are neither true nor false."""
    strengths = Strengths(image.detected, known)
    for name in sorted(image.colors.keys() & known.images.keys()):
        true, found = image.colors[name], _found(strengths, name, image)
        for word in words:
            strength = strengths.color(found, word) if strengths.may_have_color(name, word) else None
            if strength is not None and (word in true or not any(overlap(word, color) for color in true)):
                yield strength, word in true
