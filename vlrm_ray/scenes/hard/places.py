"""Positions, order and relations in the image.

A position is stated falsely only where the object is two rows or columns away. Relations and orders need centers that
differ by at least `_CLEAR`.
"""

from itertools import pairwise

from vlrm_ray.scenes.hard.facts import NUMBERS, Draft, Drafts, Facts, Template, Thing, drafts

_CLEAR = 0.2
"""Least distance of two centers along an axis for one to be left of or above the other, as a fraction of the side."""
_SIDES = {"top": (0, 0), "bottom": (0, 2), "left": (1, 0), "right": (1, 2)}
"""Axis of the cell (row or column) and index, by side of the image."""


def _position(f: Facts) -> Drafts:
    for thing in f.named:
        if thing.cell is None:
            continue
        for side, (axis, index) in _SIDES.items():
            if thing.cell[axis] != 1:
                yield from drafts(
                    thing.cell[axis] == index,
                    f"The {thing.name} is at the {side}." if axis == 0 else f"The {thing.name} is on the {side}.",
                    f"On the {side} side of the image there is a {thing.name}.",
                    f"A {thing.name} is located near the {side} edge.",
                    f"If you look at the {side} part, you see a {thing.name}.",
                    f"Towards the {side}, a {thing.name} is visible.",
                )
                yield from drafts(
                    thing.cell[axis] != index,
                    f"The {thing.name} is not at the {side} edge.",
                    f"The {thing.name} is nowhere near the {side} edge.",
                )
        for row, vertical in ((0, "top"), (2, "bottom")):
            for col, horizontal in ((0, "left"), (2, "right")):
                if thing.cell == (row, col) or 2 in (abs(thing.cell[0] - row), abs(thing.cell[1] - col)):
                    corner = f"{vertical} {horizontal}"
                    yield from drafts(
                        thing.cell == (row, col),
                        f"The {thing.name} is in the {corner} corner.",
                        f"In the {corner} sits a {thing.name}.",
                        f"There is a {thing.name} in the {vertical}-{horizontal} corner.",
                        f"{corner.capitalize()}: {thing.name}.",
                    )
        in_corner = 1 not in thing.cell
        yield from drafts(
            in_corner, f"The {thing.name} is in a corner.", f"There is a {thing.name} in one of the four corners."
        )
        yield from drafts(not in_corner, f"The {thing.name} is not in a corner.", f"The {thing.name} is in no corner.")
        if in_corner or thing.cell == (1, 1):
            yield from drafts(
                not in_corner, f"The {thing.name} is in the center.", f"In the middle of the image is a {thing.name}."
            )


def _empty_place(f: Facts) -> Drafts:
    cells = [t.cell for t in f.things]
    if None in cells:
        return
    for side, (axis, index) in _SIDES.items():
        line = "row" if axis == 0 else "column"
        yield from drafts(
            all(cell is not None and cell[axis] != index for cell in cells),
            f"The {side} {line} is empty.",
            f"There is nothing in the {side} {line}.",
            f"No object is in the {side} {line} of the grid.",
            f"None of the objects is in the {side} {line}.",
        )
    yield from drafts(
        (1, 1) not in cells, "The center of the image is empty.", "There is nothing in the very middle of the picture."
    )


def _ordinal(f: Facts) -> Drafts:
    """Which shape is the outermost one; the names of what it is are those of all shapes and colors in the scene."""
    if len(f.shapes) < 2 or f.word:
        return
    for side, offsets in (
        ("leftmost", [(t.x, t) for t in f.shapes]),
        ("rightmost", [(-t.x, t) for t in f.shapes]),
        ("topmost", [(t.y, t) for t in f.shapes]),
        ("lowest", [(-t.y, t) for t in f.shapes]),
    ):
        (least, extreme), (following, _) = sorted(offsets, key=lambda offset: offset[0])[:2]
        if following - least < _CLEAR:
            continue
        for shape in f.present:
            yield from drafts(
                shape == extreme.shape,
                f"The {side} shape is a {shape}.",
                f"The {side} of the {NUMBERS[len(f.shapes)]} shapes is a {shape}.",
                f"A {shape} is the {side} shape.",
            )
        for color in {t.color for t in f.shapes}:
            yield from drafts(
                color == extreme.color,
                f"The {side} shape is {color}.",
                f"The {side} one of the shapes is {color}.",
            )
    ordered = sorted(f.shapes, key=lambda t: t.x)
    if all(b.x - a.x > _CLEAR for a, b in pairwise(ordered)):
        for true, row in ((True, ordered), (False, ordered[::-1])):
            names = [t.name for t in row]
            if true or names != names[::-1]:
                first, second = row[0], row[1]
                yield from drafts(
                    true,
                    f"From left to right: {', '.join(names)}.",
                    f"From left to right, the image shows {', then '.join(f'a {n}' for n in names)}.",
                    f"Reading from right to left, I see {', '.join(f'a {n}' for n in names[::-1])}.",
                    "Left to right: " + " → ".join(names),
                )
                if first.shape != ordered[0].shape or true:
                    yield from drafts(
                        true,
                        f"The first shape from the left is a {first.shape}.",
                        f"Counting from the left, shape number one is a {first.shape}.",
                    )
                if second.shape != ordered[1].shape or true:
                    yield Draft(true, f"The second shape from the left is a {second.shape}.")


def _pair_relations(f: Facts) -> list[tuple[Thing, Thing, str, str]]:
    """(first, second, relation, opposite relation) for the relations that clearly hold between named objects."""
    relations = []
    for a in f.named:
        for b in f.named:
            if b.x - a.x > _CLEAR:
                relations.append((a, b, "to the left of", "to the right of"))
            if a.x - b.x > _CLEAR:
                relations.append((a, b, "to the right of", "to the left of"))
            if b.y - a.y > _CLEAR:
                relations.append((a, b, "above", "below"))
            if a.y - b.y > _CLEAR:
                relations.append((a, b, "below", "above"))
    return relations


def _relation(f: Facts) -> Drafts:
    for a, b, right, wrong in _pair_relations(f):
        for true, yes, no in ((True, right, wrong), (False, wrong, right)):
            yield from drafts(
                true,
                f"The {a.name} is {yes} the {b.name}, not {no} it.",
                f"The {a.name} is not {no} the {b.name} but {yes} it.",
                f"{yes.capitalize()} the {b.name} is a {a.name}.",
                f"{yes.capitalize()} the {b.name}, there is a {a.name}.",
                f"The {a.name} isn't {no} the {b.name}.",
                f"It is not true that the {a.name} is {no} the {b.name}.",
                f"If you start at the {b.name}, the {a.name} is {yes} it.",
                f"Seen from the {b.name}, the {a.name} lies {yes} it.",
            )
        side = right.removeprefix("to the ").removesuffix(" of")
        opposite = wrong.removeprefix("to the ").removesuffix(" of")
        if side in ("left", "right"):
            for true, way in ((True, side), (False, opposite)):
                yield from drafts(
                    true,
                    f"The {b.name} has a {a.name} to its {way}.",
                    f"The {a.name} is further {way} than the {b.name}.",
                    f"To the {way} of the {b.name} you find the {a.name}.",
                    f"The {a.name} is {way} of the {b.name}.",
                )
        elif a.y < b.y:
            yield Draft(True, f"The {a.name} is higher up than the {b.name}.")
            yield Draft(False, f"The {b.name} is higher up than the {a.name}.")


def _nothing_beside(f: Facts) -> Drafts:
    for thing in f.named:
        others = [t for t in f.things if t is not thing]
        for way, offsets in (
            ("to the left of", [thing.x - t.x for t in others]),
            ("to the right of", [t.x - thing.x for t in others]),
            ("above", [thing.y - t.y for t in others]),
            ("below", [t.y - thing.y for t in others]),
        ):
            if offsets and all(abs(offset) > _CLEAR for offset in offsets):
                yield from drafts(
                    all(offset < 0 for offset in offsets),
                    f"There is nothing {way} the {thing.name}.",
                    f"Nothing is {way} the {thing.name}.",
                    f"I see no object {way} the {thing.name}.",
                )


def _adjacency(f: Facts) -> Drafts:
    """Side by side in one row, or two cells apart at least; anything between is arguable."""
    for a in f.named:
        for b in f.named:
            if a is b or a.cell is None or b.cell is None:
                continue
            rows, columns = abs(a.cell[0] - b.cell[0]), abs(a.cell[1] - b.cell[1])
            if (rows, columns) == (0, 1) or (max(rows, columns) == 2 and min(rows, columns) >= 1):
                beside = columns == 1 and rows == 0
                yield from drafts(
                    beside,
                    f"The {a.name} and the {b.name} are next to each other.",
                    f"The {a.name} and the {b.name} are neighbors.",
                    f"The {a.name} is right beside the {b.name}.",
                )
                yield from drafts(
                    not beside,
                    f"The {a.name} is not next to the {b.name}.",
                    f"The {a.name} and the {b.name} are not next to each other.",
                )


def _same_line(f: Facts) -> Drafts:
    for a in f.named:
        for b in f.named:
            if a is not b and a.cell is not None and b.cell is not None:
                yield from drafts(
                    a.cell[0] == b.cell[0],
                    f"The {a.name} and the {b.name} are in the same row.",
                    f"The {a.name} is in the same row as the {b.name}.",
                )
                yield from drafts(
                    a.cell[1] != b.cell[1],
                    f"The {a.name} and the {b.name} are not in the same column.",
                    f"The {a.name} is in a different column than the {b.name}.",
                )


TEMPLATES: dict[str, Template] = {
    "position": _position,
    "empty_place": _empty_place,
    "ordinal": _ordinal,
    "relation": _relation,
    "nothing_beside": _nothing_beside,
    "adjacency": _adjacency,
    "same_line": _same_line,
}
"""Template of each construction."""
