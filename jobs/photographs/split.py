"""Divides photographs, cut-outs, backgrounds and words between the calibration split and the test split.

No object, background or word is in both. The members of a class are put in an order that depends on their names only and
dealt out in turns, so that each class is spread evenly. Where a class has one cut-out, its photographs are on one side only.
"""

from collections.abc import Iterable, Mapping, Sequence

from jobs.photographs.catalogue import Cutout, Natural
from vlrm_ray.ids import digest

SPLITS = ("calibration", "test")


def deal(names: Iterable[str], start: int = 0) -> dict[str, str]:
    """Split of each name; `start` is the number of the split that the first one gets."""
    ordered = sorted(set(names), key=lambda name: digest("split", name))
    return {name: SPLITS[(start + index) % 2] for index, name in enumerate(ordered)}


def split_cutouts(cutouts: Sequence[Cutout]) -> dict[str, str]:
    """Split of each group of cut-outs. Classes with an odd number of groups get the extra one in turns."""
    groups: dict[str, set[str]] = {}
    for cutout in cutouts:
        groups.setdefault(cutout.class_name, set()).add(cutout.group)
    sides: dict[str, str] = {}
    odd = 0
    for class_name in sorted(groups, key=lambda name: digest("class", name)):
        sides |= deal(groups[class_name], odd % 2)
        odd += len(groups[class_name]) % 2
    return sides


def split_naturals(naturals: Sequence[Natural], cutouts: Sequence[Cutout]) -> dict[str, str]:
    """Split of each natural photograph. One that a cut-out was taken from is on that cut-out's side."""
    sides = split_cutouts(cutouts)
    fixed = {str(c.origin): sides[c.group] for c in cutouts if isinstance(c.origin, str)}
    free: dict[tuple[str, ...], list[str]] = {}
    for photograph in naturals:
        if photograph.name not in fixed:
            kind = tuple(sorted(photograph.counts)) or ("", photograph.place.source)
            free.setdefault(kind, []).append(photograph.name)
    dealt: dict[str, str] = {}
    odd = 0
    for kind in sorted(free):
        dealt |= deal(free[kind], odd % 2)
        odd += len(free[kind]) % 2
    return {photograph.name: fixed.get(photograph.name) or dealt[photograph.name] for photograph in naturals}


def of_split(sides: Mapping[str, str], split: str) -> list[str]:
    """The names of a split, sorted."""
    return sorted(name for name, side in sides.items() if side == split)
