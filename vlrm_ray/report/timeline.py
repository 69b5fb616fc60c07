"""Timeline of a run: when each actor and stage was busy, without the long pauses between sessions."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from vlrm_ray.report.svg import Color, Plot, figure, to_plot
from vlrm_ray.report.tables import JsonObject, round_label

MAX_LANES = 16
"""Lanes of the timeline; if there are more, the least busy ones are left out."""
MIN_PAUSE_SECONDS, MIN_PAUSE_SHARE = 60.0, 0.2
"""A gap in the work of the whole run is shortened if it is longer than both: seconds, and share of the total work."""
SHORTENED_PAUSE_SHARE = 0.03
"""Length of a shortened pause, as a share of the total work."""
_STAGES = ("train", "publish", "evaluate")
"""Lanes that are whole stages; they are drawn below the actors, in this order."""


def timeline(spans: Sequence[JsonObject]) -> Plot | None:
    """Draw the busy intervals of `report.json`; None if there are none."""
    if not spans:
        return None
    lanes = _busiest_lanes(spans)
    to_axis, pauses = _shorten_pauses(spans)
    drawing = figure(9.6, 0.9 + 0.27 * len(lanes))
    axes = drawing.axes[0]
    for y, lane in enumerate(lanes):
        for span in (s for s in spans if s["lane"] == lane):
            start, end = to_axis(span["began"]), to_axis(span["ended"])
            axes.barh(y, end - start, left=start, height=0.62, color=_round_color(span["round"]), linewidth=0)
    for number in sorted({s["round"] for s in spans}):
        start = min(to_axis(s["began"]) for s in spans if s["round"] == number)
        axes.text(start, -0.75, round_label(number), color=_round_color(number), va="bottom", fontsize=10)
        axes.axvline(start, color=Color.LINE, linewidth=0.9, zorder=0)
    for x, seconds in pauses:
        axes.axvline(x, color=Color.MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.text(x, len(lanes) - 0.4, f" paused {_duration(seconds)}", color=Color.MUTED, fontsize=9.5, va="top")
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.4, -0.8)
    axes.set_xlim(0, max(to_axis(s["ended"]) for s in spans) * 1.01)
    axes.set_xlabel("seconds, pauses shortened" if pauses else "seconds")
    axes.grid(False, axis="y")
    return to_plot(
        drawing,
        "Timeline",
        f"Busy times of {len(lanes)} actors and stages by round; the tables below list the seconds.",
    )


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
