"""The page's plots: matplotlib draws, the page's style sheet colours. The same figures give the same bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from vlrm_ray.report.svg import Colour, Plot, figure, plot

Facts = Mapping[str, Any]
BASELINES = {"pick_shorter_accuracy": "pick shorter", "pick_longer_accuracy": "pick longer", "always_first_accuracy": "pick first"}  # fmt: skip
MOST_LANES = 16
"""Rows of the timeline; the least busy beyond them are left out."""


def over_rounds(rounds: Sequence[Facts], name: str, title: str) -> Plot | None:
    """A metric by round with its interval, the same without the image, and what picking by length gives."""
    measured = [r for r in rounds if name in r["metrics"]]
    if not measured:
        return None
    drawing = figure(5.2, 3.1)
    axes = drawing.axes[0]
    ends = [_line(axes, measured, name, Colour.ONE, "with the image")]
    if any(f"blind_{name}" in r["metrics"] for r in measured):
        ends.append(_line(axes, measured, f"blind_{name}", Colour.TWO, "image removed"))
    for baseline, label in BASELINES.items():
        if found := measured[-1]["metrics"].get(baseline):
            axes.axhline(100 * found["value"], color=Colour.MUTED, linewidth=0.9, linestyle=(0, (1, 2.5)), zorder=1)
            ends.append((100 * found["value"], label, Colour.MUTED))
    _label_ends(drawing, ends)
    numbers = [r["round"] for r in measured]
    axes.set_xticks(numbers, ["start" if n == 0 else f"round {n}" for n in numbers])
    axes.set_xlim(min(numbers) - 0.25, max(numbers) + 0.25)
    _percent(axes)
    said = "; ".join(
        f"{'start' if r['round'] == 0 else 'round ' + str(r['round'])} {100 * r['metrics'][name]['value']:.1f} %"
        for r in measured
    )
    return plot(drawing, f"{title} by round", f"With the image: {said}. Bars are 95 % intervals.")


def _line(axes: Any, rounds: Sequence[Facts], name: str, colour: str, label: str) -> tuple[float, str, str]:
    found = [(r["round"], r["metrics"][name]) for r in rounds if name in r["metrics"]]
    x, y = [n for n, _ in found], [100 * m["value"] for _, m in found]
    low = [max(0.0, v - 100 * m["ci95"][0]) for v, (_, m) in zip(y, found, strict=True)]
    high = [max(0.0, 100 * m["ci95"][1] - v) for v, (_, m) in zip(y, found, strict=True)]
    style = {"linestyle": "-"} if colour == Colour.ONE else {"linestyle": (0, (4, 2))}
    axes.errorbar(
        x, y, (low, high), color=colour, marker="o", markersize=5, linewidth=2, elinewidth=1.3, capsize=3, **style
    )
    return y[-1], label, colour


def _label_ends(drawing: Figure, ends: Sequence[tuple[float, str, str]], apart: float = 7.5) -> None:
    """Names at the lines' right ends, moved apart where they would overlap."""
    axes = drawing.axes[0]
    ordered = sorted(ends)
    places = [y for y, _, _ in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + apart)
    over = max(0.0, places[-1] - 100)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], 100 - (len(places) - 1 - i) * apart) if over else places[i]
    for place, (_, label, colour) in zip(places, ordered, strict=True):
        axes.text(1.015, place / 100, label, color=colour, transform=axes.transAxes, va="center", fontsize=9.5)


def _percent(axes: Any) -> None:
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])


def reliability(rounds: Sequence[Facts]) -> Plot | None:
    """How often responses are right against how sure the reward is, first and last evaluated round."""
    measured = [r for r in rounds if r.get("reliability")]
    if not measured:
        return None
    drawing = figure(4.2, 3.6)
    axes = drawing.axes[0]
    axes.plot([0, 100], [0, 100], color=Colour.MUTED, linewidth=1, linestyle=(0, (1, 2.5)))
    axes.text(
        30,
        34,
        "perfect",
        color=Colour.MUTED,
        fontsize=9,
        rotation=45,
        ha="center",
        va="bottom",
        rotation_mode="anchor",
        transform_rotates_text=True,
    )
    shown = [(measured[0], Colour.TWO), (measured[-1], Colour.ONE)][-min(2, len(measured)) :]
    for found, colour in shown:
        bins = found["reliability"]
        x, y = [100 * b["mean_reward"] for b in bins], [100 * b["right"] for b in bins]
        most = max(b["n"] for b in bins)
        name = "start" if found["round"] == 0 else f"round {found['round']}"
        axes.plot(x, y, color=colour, linewidth=1.6, label=name)
        axes.scatter(x, y, [8 + 110 * b["n"] / most for b in bins], color=colour, alpha=0.75, linewidths=0)
    axes.set_xlim(-4, 104)
    _percent(axes)
    axes.set_ylim(-4, 104)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.set_xlabel("reward: how sure of Yes")
    axes.set_ylabel("share that is right")
    axes.legend(frameon=False, loc="upper left", labelcolor="linecolor", handlelength=1.2)
    last = measured[-1]["reliability"]
    said = "; ".join(f"reward {b['mean_reward']:.2f}: {100 * b['right']:.0f} % right of {b['n']}" for b in last)
    return plot(drawing, "Calibration of rewards", f"Last evaluated round: {said}.")


def margins(round_: Facts, threshold: float) -> Plot | None:
    """How far apart the rewards of a pair's sides were, kept and refused, with the region that is kept."""
    counts = round_.get("figures", {}).get("margins")
    if not counts or not any(counts["kept"] + counts["refused"]):
        return None
    drawing = figure(5.2, 3.1)
    axes = drawing.axes[0]
    width = 2 / len(counts["kept"])
    starts = [-1 + width * i for i in range(len(counts["kept"]))]
    axes.axvspan(threshold, 1, color=Colour.GOOD, alpha=0.1, linewidth=0)
    axes.axvline(threshold, color=Colour.GOOD, linewidth=1.2, linestyle=(0, (3, 2)))
    bar = {"width": width * 0.9, "align": "edge", "linewidth": 0}
    axes.bar(starts, counts["kept"], color=Colour.GOOD, label=f"kept ({sum(counts['kept'])})", **bar)
    axes.bar(
        starts,
        counts["refused"],
        bottom=counts["kept"],
        color=Colour.BAD,
        label=f"refused ({sum(counts['refused'])})",
        **bar,
    )
    most = max(k + r for k, r in zip(counts["kept"], counts["refused"], strict=True))
    axes.set_yscale("symlog", linthresh=1, linscale=0.6)
    axes.set_ylim(0, most * 2.2)
    ticks = [0, *(10**i for i in range(math.ceil(math.log10(most + 1)) + 1) if 10**i <= most * 2.2)]
    axes.set_yticks(ticks, [f"{t:,}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlim(-1, 1)
    axes.set_xlabel("margin: reward of chosen − reward of rejected")
    axes.set_ylabel("pairs (log scale)")
    axes.text(
        threshold + 0.02,
        0.98,
        f"kept from {threshold:g} on",
        color=Colour.GOOD,
        transform=axes.get_xaxis_transform(),
        va="top",
        fontsize=9.5,
    )
    axes.legend(frameon=False, loc="upper left", labelcolor="linecolor", handlelength=0.9)
    text = f"{sum(counts['kept'])} pairs kept and {sum(counts['refused'])} refused in round {round_['round']}; kept from a margin of {threshold:g} on."
    return plot(drawing, "Margins of pairs", text)


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
            first,
            -0.75,
            "start" if number == 0 else f"round {number}",
            color=(Colour.ONE, Colour.TWO)[number % 2],
            va="bottom",
            fontsize=9.5,
        )
        axes.axvline(first, color=Colour.LINE, linewidth=0.9, zorder=0)
    for at, seconds in pauses:
        axes.axvline(at, color=Colour.MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.text(at, len(lanes) - 0.4, f" paused {_duration(seconds)}", color=Colour.MUTED, fontsize=9, va="top")
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
    return [lane for lane in busy if lane in kept]


def _without_pauses(spans: Sequence[Facts]) -> tuple[Any, list[tuple[float, float]]]:
    """A map from seconds to places on an axis where nobody's long pauses take little room, and those pauses."""
    ends: list[list[float]] = []
    for began, ended in sorted((s["began"], s["ended"]) for s in spans):
        if ends and began <= ends[-1][1]:
            ends[-1][1] = max(ends[-1][1], ended)
        else:
            ends.append([began, ended])
    work = sum(ended - began for began, ended in ends)
    cuts = []
    for (_, ended), (began, _) in zip(ends, ends[1:], strict=False):
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
