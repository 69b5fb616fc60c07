"""Parses the tiny model's descriptions ("red circle top left, sign STOP middle right") into `Evidence`."""

import re

from vlrm_ray.scenes.language import COLUMNS, ROWS
from vlrm_ray.scenes.world import COLORS, GRID, SHAPES, SIGN
from vlrm_ray.types import Detection, Evidence, Word

KINDS = frozenset({*SHAPES, SIGN})
"""All classes of objects in the embedded scenes."""
SIDE = 90.0
"""Side of the nominal image that the evidence refers to, in pixels."""
_FACT = re.compile(
    rf"(?:(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})|{SIGN} (?P<word>\w+))"
    rf" (?P<row>{'|'.join(ROWS)}) (?P<col>{'|'.join(COLUMNS)})"
)


def parse_description(description: str) -> Evidence:
    """Convert a description, the output of `language.describe_scene` or of the model, into evidence.

    Each object's box lies in the middle of its cell, with confidence 1. Parts that do not parse are ignored.
    """
    objects: list[Detection] = []
    words: list[Word] = []
    for part in description.split(","):
        match = _FACT.fullmatch(part.strip())
        if match is None:
            continue
        box = _cell_box(ROWS.index(match["row"]), COLUMNS.index(match["col"]))
        objects.append(Detection(match["shape"] or SIGN, box, 1.0, match["color"] or "white"))
        if match["word"]:
            words.append(Word(match["word"], box, 1.0))
    return Evidence(int(SIDE), int(SIDE), tuple(objects), tuple(words))


def _cell_box(row: int, col: int) -> tuple[float, float, float, float]:
    """A box in the middle of a cell, half as wide and high as the cell."""
    cell = SIDE / GRID
    x, y = (col + 0.5) * cell, (row + 0.5) * cell
    return x - cell / 4, y - cell / 4, x + cell / 4, y + cell / 4
