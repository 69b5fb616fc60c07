"""Geometry of boxes in the image plane: overlap, and spatial relations with a tolerance."""

from collections.abc import Callable
from typing import Literal

Box = tuple[float, float, float, float]
"""Corners in pixels: x0, y0, x1, y1, with y growing downwards."""
Relation = Literal["holds", "fails", "unclear"]
"""Whether a spatial relation between two boxes is true, false, or too close to tell."""

TOLERANCE = 0.08
"""Directions (left of, above, ...) are unclear if the centers differ by less than this share of the image."""


def centre(box: Box) -> tuple[float, float]:
    """Center of a box: x, y in pixels."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def area(box: Box) -> float:
    """Area in square pixels; 0 if a corner is on the wrong side of the other."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a: Box, b: Box) -> float:
    """Area of the overlap of two boxes, in square pixels."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1; 0 for two empty boxes."""
    shared = intersection(a, b)
    return shared / max(1e-9, area(a) + area(b) - shared)


def intersection_over_smaller(a: Box, b: Box) -> float:
    """Intersection over the area of the smaller box, 0 to 1; 1 if one box contains the other."""
    return intersection(a, b) / max(1e-9, min(area(a), area(b)))


def spatial_relation(name: str, a: Box, b: Box, width: int, height: int) -> Relation:
    """Whether box `a` is in the named relation to box `b`, from the viewer's point of view.

    - left_of, right_of, above, below: compare the centers.
    - under: below, and the boxes overlap horizontally.
    - on: the bottom edge of `a` meets the top edge of `b`, and the boxes overlap horizontally.
    - in: most of `a` lies within `b`.
    - next_to: the gap is smaller than half the side of the larger box (its side is the square root of its area).

    The answer is "unclear" close to a threshold, and for relations that a 2D image does not show (behind).

    Args:
        name: the relation, as in `Claim.value`.
        a: box of the claim's subject.
        b: box of the claim's object.
        width: image width in pixels.
        height: image height in pixels.
    """
    rule = _RELATIONS.get(name)
    return rule(a, b, width, height) if rule else "unclear"


def _direction(axis: int, sign: int) -> Callable[[Box, Box, int, int], Relation]:
    """Rule for a direction: `axis` 0 is x and 1 is y; `sign` 1 means that `a` has the larger coordinate."""

    def rule(a: Box, b: Box, width: int, height: int) -> Relation:
        lead = sign * (centre(a)[axis] - centre(b)[axis]) / (width, height)[axis]
        return _graded(lead, TOLERANCE, -TOLERANCE)

    return rule


def _inside(a: Box, b: Box, width: int, height: int) -> Relation:
    return _graded(intersection(a, b) / max(1e-6, area(a)), 0.8, 0.2)


def _next_to(a: Box, b: Box, width: int, height: int) -> Relation:
    return _graded(-_gap(a, b), -0.5, -1.5)


def _on(a: Box, b: Box, width: int, height: int) -> Relation:
    """Fails if the boxes are apart, holds if the edges meet, else unclear: "on" and "in front of" look alike in 2D."""
    if _gap(a, b) > 0.5:
        return "fails"
    rests = abs(a[3] - b[1]) < 0.15 * (a[3] - a[1]) and _horizontal_overlap(a, b) > 0.5
    return "holds" if rests else "unclear"


def _under(a: Box, b: Box, width: int, height: int) -> Relation:
    below, overlap = _direction(1, 1)(a, b, width, height), _horizontal_overlap(a, b)
    if below == "fails" or overlap <= 0:
        return "fails" if below == "fails" or -overlap > 0.5 else "unclear"
    return "holds" if below == "holds" and overlap > 0.5 else "unclear"


_AXES = {"left_of": (0, -1), "right_of": (0, 1), "above": (1, -1), "below": (1, 1)}
"""Axis and sign of each direction; see `_direction`."""
_RELATIONS: dict[str, Callable[[Box, Box, int, int], Relation]] = {
    **{name: _direction(*direction) for name, direction in _AXES.items()},
    "next_to": _next_to,
    "in": _inside,
    "on": _on,
    "under": _under,
}


def relation_margin(name: str, a: Box, b: Box, width: int, height: int) -> float | None:
    """How clearly a relation holds (positive) or fails: at 1 and -1 `spatial_relation` stops being unclear.

    Returns None for relations that a 2D image does not show. Arguments as for `spatial_relation`.
    """
    if name in _AXES:
        axis, sign = _AXES[name]
        return sign * (centre(a)[axis] - centre(b)[axis]) / (width, height)[axis] / TOLERANCE
    if name == "next_to":
        return (1 - _gap(a, b)) / 0.5
    if name == "in":
        return (intersection(a, b) / max(1e-6, area(a)) - 0.5) / 0.3
    if name not in _RELATIONS:
        return None
    return {"holds": 2.0, "fails": -2.0, "unclear": 0.0}[spatial_relation(name, a, b, width, height)]


def _graded(value: float, holds_above: float, fails_below: float) -> Relation:
    return "holds" if value > holds_above else "fails" if value < fails_below else "unclear"


def _gap(a: Box, b: Box) -> float:
    """Distance between two boxes along the axis on which they are farther apart, in sides of the larger box."""
    gap = max(max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3]))
    return float(gap / max(1e-6, max(area(a), area(b)) ** 0.5))


def _horizontal_overlap(a: Box, b: Box) -> float:
    """Shared width as a share of the narrower box; negative if the boxes are apart horizontally."""
    return (min(a[2], b[2]) - max(a[0], b[0])) / max(1e-6, min(a[2] - a[0], b[2] - b[0]))
