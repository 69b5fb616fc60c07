"""Facts as the tiny model states them ("red circle top left, sign STOP middle right"), as evidence again."""

import re

from vlrm_ray.scenes.language import COLUMNS, ROWS
from vlrm_ray.scenes.world import COLORS, GRID, SHAPES, SIGN
from vlrm_ray.types import Detection, Evidence, Word

KINDS = frozenset({*SHAPES, SIGN})
SIDE = 90.0
_FACT = re.compile(
    rf"(?:(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})|{SIGN} (?P<word>\w+))"
    rf" (?P<row>{'|'.join(ROWS)}) (?P<col>{'|'.join(COLUMNS)})"
)


def stated(description: str) -> Evidence:
    """What a description says, each thing in the middle of its field; parts that are no facts say nothing."""
    objects: list[Detection] = []
    words: list[Word] = []
    for part in description.split(","):
        match = _FACT.fullmatch(part.strip())
        if match is None:
            continue
        box = _field(ROWS.index(match["row"]), COLUMNS.index(match["col"]))
        objects.append(Detection(match["shape"] or SIGN, box, 1.0, match["color"] or "white"))
        if match["word"]:
            words.append(Word(match["word"], box, 1.0))
    return Evidence(int(SIDE), int(SIDE), tuple(objects), tuple(words))


def _field(row: int, col: int) -> tuple[float, float, float, float]:
    cell = SIDE / GRID
    x, y = (col + 0.5) * cell, (row + 0.5) * cell
    return x - cell / 4, y - cell / 4, x + cell / 4, y + cell / 4
