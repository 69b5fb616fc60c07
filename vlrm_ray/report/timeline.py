"""The timeline: who was at work when, with long pauses of the whole run cut short."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from vlrm_ray.report.svg import Colour, Plot, figure, plot
from vlrm_ray.report.tables import round_name

Facts = Mapping[str, Any]
MOST_LANES = 16
"""Rows of the timeline; the least busy beyond them are left out."""
_WHOLE = ("train", "publish", "evaluate")


def timeline(spans: Sequence[Facts]) -> Plot | None:
    """Who was at work when; long pauses of the whole run are cut short."""
    if not spans:
        return None
    lanes = _busiest(spans)
    place, pauses = _without_pauses(spans)
    drawing = figure(9.6, 0.9 + 0.27 * len(lanes))
    axes = drawing.axes[0]
    for height, lane in enumerate(lanes):
        for span in (s for s in spans if s["lane"] == lane):
            began, ended = place(span["began"]), place(span["ended"])
            colour = (Colour.ONE, Colour.TWO)[span["round"] % 2]
            axes.barh(height, ended - began, left=began, height=0.62, color=colour, linewidth=0)
    for number in sorted({s["round"] for s in spans}):
        first = min(place(s["began"]) for s in spans if s["round"] == number)
        axes.text(
            first, -0.75, round_name(number), color=(Colour.ONE, Colour.TWO)[number % 2], va="bottom", fontsize=10
        )
        axes.axvline(first, color=Colour.LINE, linewidth=0.9, zorder=0)
    for at, seconds in pauses:
        axes.axvline(at, color=Colour.MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.text(at, len(lanes) - 0.4, f" paused {_duration(seconds)}", color=Colour.MUTED, fontsize=9.5, va="top")
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.4, -0.8)
    axes.set_xlim(0, max(place(s["ended"]) for s in spans) * 1.01)
    axes.set_xlabel("seconds of work" if pauses else "seconds")
    axes.grid(False, axis="y")
    return plot(
        drawing,
        "Timeline",
        f"When each of {len(lanes)} actors and stages was at work, round by round; the table below has the seconds.",
    )


def _busiest(spans: Sequence[Facts]) -> list[str]:
    busy: dict[str, float] = {}
    for span in spans:
        busy[span["lane"]] = busy.get(span["lane"], 0.0) + span["ended"] - span["began"]
    kept = sorted(busy, key=lambda lane: -busy[lane])[:MOST_LANES]
    first = {lane: min(s["began"] for s in spans if s["lane"] == lane) for lane in kept}
    return sorted(kept, key=lambda lane: (_WHOLE.index(lane) if lane in _WHOLE else -1, first[lane]))


def _without_pauses(spans: Sequence[Facts]) -> tuple[Callable[[float], float], list[tuple[float, float]]]:
    """A map from seconds to places on an axis where nobody's long pauses take little room, and those pauses."""
    ends: list[list[float]] = []
    for began, ended in sorted((s["began"], s["ended"]) for s in spans):
        if ends and began <= ends[-1][1]:
            ends[-1][1] = max(ends[-1][1], ended)
        else:
            ends.append([began, ended])
    work = sum(ended - began for began, ended in ends)
    cuts = []
    for (_, ended), (began, _) in pairwise(ends):
        if began - ended > max(60.0, 0.2 * work):
            cuts.append((ended, began - ended - 0.03 * work))

    def place(second: float) -> float:
        return second - sum(cut for at, cut in cuts if second > at)

    return place, [(place(at), cut) for at, cut in cuts]


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
