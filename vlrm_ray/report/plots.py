"""The page's plots: matplotlib draws, the page's style sheet colours. The same figures give the same bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from vlrm_ray.report.svg import Colour, Plot, figure, plot
from vlrm_ray.report.tables import round_name
from vlrm_ray.report.words import percent

Facts = Mapping[str, Any]
BASELINES = {
    "pick_shorter_accuracy": "pick shorter",
    "pick_longer_accuracy": "pick longer",
    "always_first_accuracy": "pick first",
}
WIDTH, HEIGHT = 4.7, 3.0
_DOTTED, _DASHED = (0, (1, 2.5)), (0, (4, 2))


def over_rounds(rounds: Sequence[Facts], name: str, title: str) -> Plot | None:
    """A metric by round with its interval, the same without the image, and what picking by length gives."""
    measured = [r for r in rounds if name in r["metrics"]]
    if not measured:
        return None
    drawing = figure(WIDTH, HEIGHT)
    axes, last = drawing.axes[0], measured[-1]["metrics"]
    ends = [_line(axes, measured, name, Colour.ONE, "with the image")]
    if f"blind_{name}" in last:
        ends.append(_line(axes, measured, f"blind_{name}", Colour.TWO, "image removed"))
    for baseline in (b for b in BASELINES if b in last):
        value = 100 * last[baseline]["value"]
        axes.axhline(value, color=Colour.MUTED, linewidth=0.9, linestyle=_DOTTED, zorder=1)
        ends.append((value, BASELINES[baseline], Colour.MUTED))
    lows = [100 * r["metrics"][n]["ci95"][0] for r in measured for n in (name, f"blind_{name}") if n in r["metrics"]]
    _percent_axis(axes, max(0, 10 * int((min(*lows, *(y for y, _, _ in ends)) - 4) / 10)))
    _label_ends(axes, ends)
    numbers = [r["round"] for r in measured]
    axes.set_xticks(numbers, [round_name(n) for n in numbers])
    axes.set_xlim(min(numbers) - 0.25, max(numbers) + 0.25)
    said = "; ".join(f"{round_name(r['round'])} {percent(r['metrics'][name]['value'])}" for r in measured)
    return plot(drawing, f"{title} by round", f"With the image: {said}. Bars are 95 % intervals.")


def _line(axes: Axes, rounds: Sequence[Facts], name: str, colour: str, label: str) -> tuple[float, str, str]:
    found = [(r["round"], r["metrics"][name]) for r in rounds if name in r["metrics"]]
    values, reach = _intervals([metric for _, metric in found])
    axes.errorbar(
        [number for number, _ in found], values, reach, color=colour, marker="o", markersize=5, linewidth=2,
        elinewidth=1.3, capsize=3, linestyle="-" if colour == Colour.ONE else _DASHED,
    )  # fmt: skip
    return values[-1], label, colour


def _intervals(found: Sequence[Facts]) -> tuple[list[float], tuple[list[float], list[float]]]:
    """Values in percent, and how far their intervals reach below and above."""
    values = [100 * metric["value"] for metric in found]
    low = [max(0.0, value - 100 * metric["ci95"][0]) for value, metric in zip(values, found, strict=True)]
    high = [max(0.0, 100 * metric["ci95"][1] - value) for value, metric in zip(values, found, strict=True)]
    return values, (low, high)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], apart: float = 0.08) -> None:
    """Names at the lines' right ends, moved apart where they would overlap."""
    floor, ceiling = axes.get_ylim()
    ordered = sorted(ends)
    places = [(y - floor) / (ceiling - floor) for y, _, _ in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + apart)
    places = [min(place, 1 - (len(places) - 1 - i) * apart) for i, place in enumerate(places)]
    for place, (_, label, colour) in zip(places, ordered, strict=True):
        axes.text(1.015, place, label, color=colour, transform=axes.transAxes, va="center", fontsize=10)


def _percent_axis(axes: Axes, floor: int = 0) -> None:
    ticks = range(-(-floor // 20) * 20, 101, 20)
    axes.set_ylim(floor, 100)
    axes.set_yticks(ticks, [f"{tick} %" if tick == 100 else str(tick) for tick in ticks])


def by_kind(rounds: Sequence[Facts], kinds: Mapping[str, str]) -> Plot | None:
    """Pairs judged right by kind of question, first and last evaluated round, with intervals."""
    measured = [r for r in rounds if any(name in r["metrics"] for name in kinds)]
    if not measured:
        return None
    drawing = figure(WIDTH, 0.9 + 0.42 * len(kinds))
    axes, last = drawing.axes[0], measured[-1]["metrics"]
    for found, colour, shift in _first_and_last(measured):
        known = [(i, found["metrics"][name]) for i, name in enumerate(kinds) if name in found["metrics"]]
        values, reach = _intervals([metric for _, metric in known])
        axes.errorbar(
            values, [i + shift for i, _ in known], xerr=reach, fmt="o", color=colour, markersize=5, elinewidth=1.3,
            capsize=2.5, label=round_name(found["round"]),
        )  # fmt: skip
    axes.axvline(50, color=Colour.MUTED, linewidth=1, linestyle=_DOTTED, zorder=1)
    axes.set_yticks(range(len(kinds)), list(kinds.values()))
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    _percent_ticks(axes)
    axes.grid(False, axis="y")
    _legend(axes, "lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    said = "; ".join(f"{kinds[n]} {percent(last[n]['value'], 0)}" for n in kinds if n in last)
    text = f"{round_name(measured[-1]['round'])}: {said}. Bars are 95 % intervals; the dotted line is chance."
    return plot(drawing, "First and last round by kind", text)


def _first_and_last(rounds: Sequence[Facts]) -> list[tuple[Facts, Colour, float]]:
    last = (rounds[-1], Colour.ONE, 0.13)
    return [(rounds[0], Colour.TWO, -0.13), last] if len(rounds) > 1 else [last]


def _percent_ticks(axes: Axes) -> None:
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])


def _legend(axes: Axes, place: str, **more: Any) -> None:
    axes.legend(frameon=False, loc=place, labelcolor="linecolor", handlelength=1.0, **more)


def reliability(rounds: Sequence[Facts]) -> Plot | None:
    """How often responses are right against how sure the reward is, first and last evaluated round."""
    measured = [r for r in rounds if r.get("reliability")]
    if not measured:
        return None
    drawing = figure(WIDTH, HEIGHT)
    axes = drawing.axes[0]
    axes.plot([0, 100], [0, 100], color=Colour.MUTED, linewidth=1, linestyle=_DOTTED, label="perfect")
    for found, colour, _ in _first_and_last(measured):
        bins = found["reliability"]
        x, y = [100 * b["mean_reward"] for b in bins], [100 * b["right"] for b in bins]
        most = max(b["n"] for b in bins)
        axes.plot(x, y, color=colour, linewidth=1.6, label=round_name(found["round"]))
        axes.scatter(x, y, [8 + 110 * b["n"] / most for b in bins], color=colour, alpha=0.75, linewidths=0)
    _percent_axis(axes)
    _percent_ticks(axes)
    axes.set_xlim(-4, 104)
    axes.set_ylim(-4, 104)
    axes.set_xlabel("reward: how sure of Yes")
    axes.set_ylabel("share that is right")
    _legend(axes, "upper left")
    said = "; ".join(
        f"reward {b['mean_reward']:.2f}: {percent(b['right'], 0)} right of {b['n']}"
        for b in measured[-1]["reliability"]
    )
    scaled = f" Rewards at temperature {heat:.2f}." if (heat := measured[-1].get("temperature")) else ""
    return plot(drawing, "Calibration of rewards", f"Last evaluated round: {said}.{scaled}")


def margins(round_: Facts, threshold: float) -> Plot | None:
    """How far apart the rewards of a pair's sides were, kept and refused, with the region that is kept."""
    counts = round_.get("statistics", {}).get("margins")
    if not counts or not any(counts["kept"] + counts["refused"]):
        return None
    drawing = figure(WIDTH, HEIGHT)
    axes = drawing.axes[0]
    axes.axvspan(threshold, 1, color=Colour.GOOD, alpha=0.1, linewidth=0)
    axes.axvline(threshold, color=Colour.GOOD, linewidth=1.2, linestyle=(0, (3, 2)))
    width = 2 / len(counts["kept"])
    starts = [-1 + width * i for i in range(len(counts["kept"]))]
    below = [0] * len(starts)
    for name, colour in (("kept", Colour.GOOD), ("refused", Colour.BAD)):
        label = f"{name} ({sum(counts[name])})"
        axes.bar(starts, counts[name], 0.9 * width, below, align="edge", color=colour, label=label, linewidth=0)
        below = counts[name]
    _log_axis(axes, max(k + r for k, r in zip(counts["kept"], counts["refused"], strict=True)))
    axes.set_xlim(-1, 1)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("margin: reward of chosen − reward of rejected")
    axes.text(
        threshold + 0.02, 0.98, f"kept from {threshold:g} on", color=Colour.GOOD, va="top", fontsize=10,
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    _legend(axes, "upper left")
    number, kept, refused = round_["round"], sum(counts["kept"]), sum(counts["refused"])
    text = f"Round {number}: {kept} pairs kept, {refused} refused; the kept region begins at a margin of {threshold:g}."
    return plot(drawing, "Margins of pairs", text)


def _log_axis(axes: Axes, most: int) -> None:
    """Counts from 0 on, most of the height for the small ones."""
    top = 2.2 * most
    ticks = [0, *(10**i for i in range(math.ceil(math.log10(most + 1)) + 1) if 10**i <= top)]
    axes.set_yscale("symlog", linthresh=1, linscale=0.6)
    axes.set_ylim(0, top)
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("pairs (log scale)")
