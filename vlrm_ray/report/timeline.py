"""Timeline of a run: when each actor and stage was busy, without the long pauses between sessions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes

from vlrm_ray.report.svg import Color, Plot, figure, to_plot
from vlrm_ray.report.tables import JsonObject, round_label

MAX_LANES = 16
"""Lanes of the timeline; if there are more, the least busy ones are left out."""
MIN_PAUSE_SECONDS, MIN_PAUSE_SHARE = 60.0, 0.2
"""A gap in the work of the whole run is shortened if it is longer than both: seconds, and share of the total work."""
SHORTENED_PAUSE_SHARE = 0.03
"""Length of a shortened pause, as a share of the total work."""
WIDTH, LANE_HEIGHT = 9.6, 0.27
"""Width of the drawing, and height of a lane and of a row of labels, in inches."""
MAX_LABEL_ROWS = 3
"""Rows of labels above the lanes; a label that fits into none of them is left out."""
FONT_SIZE, CHARACTER_WIDTH, LABEL_DISTANCE = 10.0, 6.2, 8.0
"""Size of the labels, an upper bound of the mean width of a character in this size, and the distance of labels; in SVG units."""
_STAGES = ("train", "publish", "evaluate")
"""Lanes that are whole stages; they are drawn below the actors, in this order."""


@dataclass(frozen=True)
class _Mark:
    """A vertical line with a label: the start of a round, or a pause.

    Attributes:
        x: position on the axis in seconds.
        text: the label.
        color: color of the label.
        dotted: whether the line is dotted, as that of a pause.
    """

    x: float
    text: str
    color: Color
    dotted: bool = False


def timeline(spans: Sequence[JsonObject]) -> Plot | None:
    """Draw the busy intervals of `report.json`; None if there are none."""
    if not spans:
        return None
    lanes = _busiest_lanes(spans)
    to_axis, pauses = _shorten_pauses(spans)
    starts = {n: min(to_axis(s["began"]) for s in spans if s["round"] == n) for n in {s["round"] for s in spans}}
    marks = [_Mark(x, round_label(number), _round_color(number)) for number, x in starts.items()]
    marks += [_Mark(x, f"paused {_duration(seconds)}", Color.MUTED, dotted=True) for x, seconds in pauses]
    end = 1.01 * max(to_axis(s["ended"]) for s in spans) or 1.0
    units = 72 * WIDTH - CHARACTER_WIDTH * (max(map(len, lanes)) + 6)
    rows = label_rows([(units * mark.x / end, mark.text) for mark in marks], units)
    height = max((row + 1 for row in rows if row is not None), default=0)
    drawing = figure(WIDTH, 0.7 + LANE_HEIGHT * (len(lanes) + height))
    axes = drawing.axes[0]
    for y, lane in enumerate(lanes):
        for span in (s for s in spans if s["lane"] == lane):
            start, stop = to_axis(span["began"]), to_axis(span["ended"])
            axes.barh(y, stop - start, left=start, height=0.62, color=_round_color(span["round"]), linewidth=0)
    axes.set_xlim(0, end)
    axes.set_ylim(len(lanes) - 0.4, -0.7)
    for mark, row in zip(marks, rows, strict=True):
        _draw_mark(axes, mark, row, _extent(units * mark.x / end, mark.text, units)[0] < units * mark.x / end)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_xlabel("seconds, pauses shortened" if pauses else "seconds")
    axes.grid(False, axis="y")
    return to_plot(
        drawing,
        "Timeline",
        f"Busy times of {len(lanes)} actors and stages by round; the tables below list the seconds.",
    )


def label_rows(labels: Sequence[tuple[float, str]], width: float) -> list[int | None]:
    """Rows for labels of which none may cover another; row 0 is the lowest.

    Args:
        labels: left end and text of each label, in SVG units.
        width: width of the drawing in SVG units; a label that would reach over the right end is written left of its position.

    Returns:
        The row of each label; None for a label that fits into none of the `MAX_LABEL_ROWS` rows.
    """
    ends = [-LABEL_DISTANCE] * MAX_LABEL_ROWS
    rows: list[int | None] = [None] * len(labels)
    boxes = [_extent(x, text, width) for x, text in labels]
    for index in sorted(range(len(labels)), key=lambda i: boxes[i]):
        start, end = boxes[index]
        free = [row for row, taken in enumerate(ends) if taken + LABEL_DISTANCE <= start]
        if free:
            rows[index] = free[0]
            ends[free[0]] = end
    return rows


def _extent(x: float, text: str, width: float) -> tuple[float, float]:
    """Left and right end of a label at `x`, in SVG units."""
    length = CHARACTER_WIDTH * len(text)
    return (x, x + length) if x + length <= width else (x - length, x)


def _draw_mark(axes: Axes, mark: _Mark, row: int | None, left: bool) -> None:
    """Draw a mark's line, and its label above the lanes in this row; `left` of the line where it would reach over the end."""
    if mark.dotted:
        axes.axvline(mark.x, color=mark.color, linewidth=1.2, linestyle=(0, (1, 2)))
    else:
        axes.axvline(mark.x, color=Color.LINE, linewidth=0.9, zorder=0)
    if row is not None:
        axes.annotate(
            mark.text, (mark.x, 1), (0, 3 + 1.3 * FONT_SIZE * row), ("data", "axes fraction"), "offset points",
            color=mark.color, fontsize=FONT_SIZE, ha="right" if left else "left", va="bottom", annotation_clip=False,
        )  # fmt: skip


def _round_color(number: int) -> Color:
    """Alternating colors, so that neighboring rounds differ."""
    return (Color.PRIMARY, Color.SECONDARY)[number % 2]


def _busiest_lanes(spans: Sequence[JsonObject]) -> list[str]:
    """The `MAX_LANES` busiest lanes, ordered by their first work."""
    busy: dict[str, float] = {}
    for span in spans:
        busy[span["lane"]] = busy.get(span["lane"], 0.0) + span["ended"] - span["began"]
    kept = sorted(busy, key=lambda lane: -busy[lane])[:MAX_LANES]
    first = {lane: min(s["began"] for s in spans if s["lane"] == lane) for lane in kept}
    return sorted(kept, key=lambda lane: (_STAGES.index(lane) if lane in _STAGES else -1, first[lane]))


def _shorten_pauses(spans: Sequence[JsonObject]) -> tuple[Callable[[float], float], list[tuple[float, float]]]:
    """Shorten the long pauses of the whole run.

    Returns:
        A function from seconds to positions on the axis, and for each pause its position and the seconds removed.
    """
    busy: list[list[float]] = []
    for start, end in sorted((s["began"], s["ended"]) for s in spans):
        if busy and start <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], end)
        else:
            busy.append([start, end])
    work = sum(end - start for start, end in busy)
    cuts = []
    for (_, end), (start, _) in pairwise(busy):
        if start - end > max(MIN_PAUSE_SECONDS, MIN_PAUSE_SHARE * work):
            cuts.append((end, start - end - SHORTENED_PAUSE_SHARE * work))

    def to_axis(second: float) -> float:
        return second - sum(removed for at, removed in cuts if second > at)

    return to_axis, [(to_axis(at), removed) for at, removed in cuts]


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
