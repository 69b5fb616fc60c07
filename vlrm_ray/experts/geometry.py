"""Boxes in the picture's plane: overlap, distance, and relations with a stated tolerance."""

from collections.abc import Callable
from typing import Literal

Box = tuple[float, float, float, float]
"""Corners in pixels: x0, y0, x1, y1."""
Relation = Literal["holds", "fails", "unclear"]

TOLERANCE = 0.08
"""Sides within this share of the image of a tie are left open."""


def centre(box: Box) -> tuple[float, float]:
    """x and y of the middle."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def area(box: Box) -> float:
    """Area in pixels; 0 for a box turned inside out."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(one: Box, two: Box) -> float:
    """Area that two boxes share."""
    return area((max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])))


def iou(one: Box, two: Box) -> float:
    """Intersection over union; 0 for two empty boxes."""
    shared = intersection(one, two)
    return shared / max(1e-9, area(one) + area(two) - shared)


def covered(one: Box, two: Box) -> float:
    """Intersection over the smaller box."""
    return intersection(one, two) / max(1e-9, min(area(one), area(two)))


def relation(name: str, one: Box, two: Box, width: int, height: int) -> Relation:
    """Whether `one` stands in a relation to `two`, from the viewer's point of view.

    left_of, right_of, above, below compare centres. under is below, and on is above, with the boxes
    beside each other in height and over each other in width; in asks for one box within the other,
    next_to for a gap smaller than half the larger object. Near a tie, and for a relation that a
    picture's plane does not tell (behind), the answer is "unclear".
    """
    rule = _RELATIONS.get(name)
    return rule(one, two, width, height) if rule else "unclear"


def _beside(axis: int, sign: int) -> Callable[[Box, Box, int, int], Relation]:
    def rule(one: Box, two: Box, width: int, height: int) -> Relation:
        lead = sign * (centre(one)[axis] - centre(two)[axis]) / (width, height)[axis]
        return _graded(lead, TOLERANCE, -TOLERANCE)

    return rule


def _inside(one: Box, two: Box, width: int, height: int) -> Relation:
    return _graded(intersection(one, two) / max(1e-6, area(one)), 0.8, 0.2)


def _next_to(one: Box, two: Box, width: int, height: int) -> Relation:
    return _graded(-_gap(one, two), -0.5, -1.5)


def _on(one: Box, two: Box, width: int, height: int) -> Relation:
    """A picture cannot tell on from in front of: on is denied where the boxes are apart, never confirmed in general."""
    if _gap(one, two) > 0.5:
        return "fails"
    rests = abs(one[3] - two[1]) < 0.15 * (one[3] - one[1]) and _shared_width(one, two) > 0.5
    return "holds" if rests else "unclear"


def _under(one: Box, two: Box, width: int, height: int) -> Relation:
    below, shared = _beside(1, 1)(one, two, width, height), _shared_width(one, two)
    if below == "fails" or shared <= 0:
        return "fails" if below == "fails" or -shared > 0.5 else "unclear"
    return "holds" if below == "holds" and shared > 0.5 else "unclear"


_RELATIONS: dict[str, Callable[[Box, Box, int, int], Relation]] = {
    "left_of": _beside(0, -1),
    "right_of": _beside(0, 1),
    "above": _beside(1, -1),
    "below": _beside(1, 1),
    "next_to": _next_to,
    "in": _inside,
    "on": _on,
    "under": _under,
}


def _graded(value: float, holds: float, fails: float) -> Relation:
    return "holds" if value > holds else "fails" if value < fails else "unclear"


def _gap(one: Box, two: Box) -> float:
    """Distance between two boxes along the axis on which they are farther apart, in sides of the larger object."""
    gap = max(max(one[0], two[0]) - min(one[2], two[2]), max(one[1], two[1]) - min(one[3], two[3]))
    return float(gap / max(1e-6, max(area(one), area(two)) ** 0.5))


def _shared_width(one: Box, two: Box) -> float:
    """Overlap in width as a share of the narrower box; negative where there is none."""
    return (min(one[2], two[2]) - max(one[0], two[0])) / max(1e-6, min(one[2] - one[0], two[2] - two[0]))
