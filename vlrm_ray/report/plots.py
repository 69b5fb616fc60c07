"""Plots of the page, drawn by matplotlib from the content of `report.json`; equal content gives equal bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from vlrm_ray.evaluation import metrics
from vlrm_ray.report.svg import Color, Plot, figure, to_plot
from vlrm_ray.report.tables import JsonObject, round_label
from vlrm_ray.report.text import percent

BASELINES = {
    "pick_shorter_accuracy": "pick shorter",
    "pick_longer_accuracy": "pick longer",
    "always_first_accuracy": "pick first",
}
WIDTH, HEIGHT = 4.7, 3.0
"""Size of a plot in inches."""
FEWEST_IN_LINE = 10
"""Responses that a point of the calibration's line needs: the share of one or two says nothing."""
_DOTTED, _DASHED = (0, (1, 2.5)), (0, (4, 2))


def metric_by_round(rounds: Sequence[JsonObject], name: str, title: str) -> Plot | None:
    """A metric by round with intervals, beside the same metric without the image and the model-free baselines."""
    measured = [r for r in rounds if name in r["metrics"]]
    if not measured:
        return None
    drawing = figure(WIDTH, HEIGHT)
    axes, last = drawing.axes[0], measured[-1]["metrics"]
    labels = [_line(axes, measured, name, Color.PRIMARY, "with image")]
    if f"blind_{name}" in last:
        labels.append(_line(axes, measured, f"blind_{name}", Color.SECONDARY, "no image"))
    prefix = "held_out_" if name.startswith("held_out_") else ""
    for baseline in (b for b in BASELINES if prefix + b in last):
        value = 100 * last[prefix + baseline]["value"]
        axes.axhline(value, color=Color.MUTED, linewidth=0.9, linestyle=_DOTTED, zorder=1)
        labels.append((value, BASELINES[baseline], Color.MUTED))
    lows = [100 * r["metrics"][n]["ci95"][0] for r in measured for n in (name, f"blind_{name}") if n in r["metrics"]]
    _percent_axis(axes, max(0, 10 * int((min(*lows, *(y for y, _, _ in labels)) - 4) / 10)))
    _label_lines(axes, labels)
    numbers = [r["round"] for r in measured]
    axes.set_xticks(numbers, [round_label(n) for n in numbers])
    axes.set_xlim(min(numbers) - 0.25, max(numbers) + 0.25)
    values = "; ".join(f"{round_label(r['round'])} {percent(r['metrics'][name]['value'])}" for r in measured)
    return to_plot(drawing, f"{title}: accuracy by round", f"With the image: {values}. Bars are 95 % intervals.")


def _line(axes: Axes, rounds: Sequence[JsonObject], name: str, color: str, label: str) -> tuple[float, str, str]:
    """Draw a metric over the rounds; returns its last value, its label and its color."""
    points = [(r["round"], r["metrics"][name]) for r in rounds if name in r["metrics"]]
    values, errors = _values_and_errors([metric for _, metric in points])
    axes.errorbar(
        [number for number, _ in points], values, errors, color=color, marker="o", markersize=5, linewidth=2,
        elinewidth=1.3, capsize=3, linestyle="-" if color == Color.PRIMARY else _DASHED,
    )  # fmt: skip
    return values[-1], label, color


def _values_and_errors(metrics: Sequence[JsonObject]) -> tuple[list[float], tuple[list[float], list[float]]]:
    """Values in percent, and the lengths of their intervals below and above them."""
    values = [100 * metric["value"] for metric in metrics]
    low = [max(0.0, value - 100 * metric["ci95"][0]) for value, metric in zip(values, metrics, strict=True)]
    high = [max(0.0, 100 * metric["ci95"][1] - value) for value, metric in zip(values, metrics, strict=True)]
    return values, (low, high)


def _label_lines(axes: Axes, labels: Sequence[tuple[float, str, str]], min_distance: float = 0.08) -> None:
    """Write the labels (y, text, color) at the right ends of the lines, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    ordered = sorted(labels)
    heights = [(y - bottom) / (top - bottom) for y, _, _ in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + min_distance)
    heights = [min(height, 1 - (len(heights) - 1 - i) * min_distance) for i, height in enumerate(heights)]
    for height, (_, text, color) in zip(heights, ordered, strict=True):
        axes.text(1.015, height, text, color=color, transform=axes.transAxes, va="center", fontsize=10)


def _percent_axis(axes: Axes, floor: int = 0) -> None:
    """A y axis from `floor` to 100 %."""
    ticks = range(-(-floor // 20) * 20, 101, 20)
    axes.set_ylim(floor, 100)
    axes.set_yticks(ticks, [f"{tick} %" if tick == 100 else str(tick) for tick in ticks])


def accuracy_by_kind(rounds: Sequence[JsonObject], kinds: Mapping[str, str]) -> Plot | None:
    """Accuracy by kind of question in the first and the last evaluated round, with intervals.

    Args:
        rounds: the rounds of the report.
        kinds: label of each metric, by its name.
    """
    measured = [r for r in rounds if any(name in r["metrics"] for name in kinds)]
    if not measured:
        return None
    drawing = figure(WIDTH, 0.9 + 0.42 * len(kinds))
    axes, last = drawing.axes[0], measured[-1]["metrics"]
    for round_, color, shift in _first_and_last(measured):
        points = [(i, round_["metrics"][name]) for i, name in enumerate(kinds) if name in round_["metrics"]]
        values, errors = _values_and_errors([metric for _, metric in points])
        axes.errorbar(
            values, [i + shift for i, _ in points], xerr=errors, fmt="o", color=color, markersize=5, elinewidth=1.3,
            capsize=2.5, label=round_label(round_["round"]),
        )  # fmt: skip
    axes.axvline(50, color=Color.MUTED, linewidth=1, linestyle=_DOTTED, zorder=1)
    axes.set_yticks(range(len(kinds)), list(kinds.values()))
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    _percent_x_axis(axes)
    axes.grid(False, axis="y")
    _legend(axes, "lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    values_text = "; ".join(f"{kinds[n]} {percent(last[n]['value'], 0)}" for n in kinds if n in last)
    text = f"{round_label(measured[-1]['round'])}: {values_text}. Bars are 95 % intervals; the dotted line is chance."
    return to_plot(drawing, "Accuracy by kind of question, first and last round", text)


def _first_and_last(rounds: Sequence[JsonObject]) -> list[tuple[JsonObject, Color, float]]:
    """The first and the last round, each with its color and the shift of its points."""
    last = (rounds[-1], Color.PRIMARY, 0.13)
    return [(rounds[0], Color.SECONDARY, -0.13), last] if len(rounds) > 1 else [last]


def _percent_x_axis(axes: Axes) -> None:
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])


def _legend(axes: Axes, location: str, **options: Any) -> None:
    axes.legend(frameon=False, loc=location, labelcolor="linecolor", handlelength=1.0, **options)


def reliability(rounds: Sequence[JsonObject]) -> Plot | None:
    """Reliability diagram of the reward: share of right responses against p(Yes), first and last evaluated round."""
    measured = [r for r in rounds if r.get("reliability")]
    if not measured:
        return None
    drawing = figure(WIDTH, HEIGHT)
    axes = drawing.axes[0]
    axes.plot([0, 100], [0, 100], color=Color.MUTED, linewidth=1, linestyle=_DOTTED, label="perfect calibration")
    for round_, color, _ in _first_and_last(measured):
        bins = round_["reliability"]
        x, y = [100 * b["mean_reward"] for b in bins], [100 * b["right"] for b in bins]
        largest = max(b["n"] for b in bins)
        line = calibration_line(bins)
        axes.plot(
            [x for x, _ in line], [y for _, y in line], color=color, linewidth=1.6, label=round_label(round_["round"])
        )
        axes.scatter(x, y, [8 + 110 * b["n"] / largest for b in bins], color=color, alpha=0.75, linewidths=0)
    _percent_axis(axes)
    _percent_x_axis(axes)
    axes.set_xlim(-4, 104)
    axes.set_ylim(-4, 104)
    axes.set_xlabel("reward, p(Yes)")
    axes.set_ylabel("share of right responses")
    _legend(axes, "upper left")
    values = "; ".join(
        f"reward {b['mean_reward']:.2f}: {percent(b['right'], 0)} of {b['n']} right"
        for b in measured[-1]["reliability"]
    )
    temperature = measured[-1].get("temperature")
    scaling = f" Rewards are scaled with temperature {temperature:.2f}." if temperature else ""
    note = (
        f"The lines join the rewards of at least {FEWEST_IN_LINE} responses. Last evaluated round: {values}.{scaling} "
    )
    return to_plot(drawing, "Calibration of the reward", note)


def calibration_error(rounds: Sequence[JsonObject]) -> str:
    """The calibration error of the last evaluated round, beside that which chance alone makes; "" without one."""
    bins = next((r["reliability"] for r in reversed(rounds) if r.get("reliability")), None)
    if not bins:
        return ""
    n = sum(b["n"] for b in bins)
    error = sum(b["n"] * abs(b["mean_reward"] - b["right"]) for b in bins) / n
    return (
        f"The calibration error of the {n} responses is {percent(error)}; perfectly calibrated rewards of as many show "
        f"{percent(metrics.chance_ece(bins))} by chance."
    )


def calibration_line(bins: Sequence[JsonObject]) -> list[tuple[float, float]]:
    """Points of the calibration's line, in percent: mean reward and share of right responses of bins with enough of them."""
    return [(100 * b["mean_reward"], 100 * b["right"]) for b in bins if b["n"] >= FEWEST_IN_LINE]


def margins(round_: JsonObject, threshold: float) -> Plot | None:
    """Histogram of the margins of kept and dropped pairs, with the smallest margin at which a pair can be kept."""
    counts = round_.get("statistics", {}).get("margins")
    if not counts or not any(counts["kept"] + counts["refused"]):
        return None
    drawing = figure(WIDTH, HEIGHT)
    axes = drawing.axes[0]
    axes.axvspan(threshold, 1, color=Color.GOOD, alpha=0.1, linewidth=0)
    axes.axvline(threshold, color=Color.GOOD, linewidth=1.2, linestyle=(0, (3, 2)))
    width = 2 / len(counts["kept"])
    starts = [-1 + width * i for i in range(len(counts["kept"]))]
    below = [0] * len(starts)
    for name, label, color in (("kept", "kept", Color.GOOD), ("refused", "dropped", Color.BAD)):
        label = f"{label} ({sum(counts[name])})"
        axes.bar(starts, counts[name], 0.9 * width, below, align="edge", color=color, label=label, linewidth=0)
        below = counts[name]
    _log_axis(axes, max(k + r for k, r in zip(counts["kept"], counts["refused"], strict=True)))
    axes.set_xlim(-1, 1)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("margin: reward of chosen − reward of rejected")
    axes.text(
        threshold + 0.02, 0.98, f"margin ≥ {threshold:g}", color=Color.GOOD, va="top", fontsize=10,
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    _legend(axes, "upper left")
    kept, dropped = sum(counts["kept"]), sum(counts["refused"])
    text = (
        f"Round {round_['round']}: margins of {kept} pairs that are kept with both sides, and of {dropped} that are dropped; the "
        f"smallest margin to keep is {threshold:g}."
    )
    return to_plot(drawing, "Margins of the pairs", text)


def _log_axis(axes: Axes, largest: int) -> None:
    """A logarithmic y axis for counts that starts at 0."""
    top = 2.2 * largest
    ticks = [0, *(10**i for i in range(math.ceil(math.log10(largest + 1)) + 1) if 10**i <= top)]
    axes.set_yscale("symlog", linthresh=1, linscale=0.6)
    axes.set_ylim(0, top)
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("pairs (log scale)")
