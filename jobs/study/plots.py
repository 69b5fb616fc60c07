"""Plots of the study's results as SVG files, for docs/results.md."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs.study.arms import ARMS, FULL
from jobs.study.results import Results, metric
from jobs.study.summary import CONSISTENCY, HALLUCINATION

_SETTINGS = {"svg.hashsalt": "study", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the plots for which results exist into a folder; returns the files."""
    with matplotlib.rc_context(_SETTINGS):
        drawings = {"study-arms.svg": _arms(results), "study-votes.svg": _votes(results)}
        written = []
        for name, drawing in drawings.items():
            if drawing is not None:
                with (folder / name).open("wb") as sink:
                    FigureCanvasSVG(drawing).print_svg(sink, metadata={"Date": None, "Creator": None})
                written.append(folder / name)
    return written


def _arms(results: Results) -> Figure | None:
    """Both headline metrics after each round, one line per seed and one colour per arm."""
    arms = [arm for arm in ARMS if results.seeds(arm)]
    if not arms:
        return None
    drawing, color_of = Figure(figsize=(9, 3.6), layout="constrained"), matplotlib.colormaps["tab20"]
    for axes, name in zip(drawing.subplots(1, 2), (HALLUCINATION, CONSISTENCY), strict=True):
        for index, arm in enumerate(arms):
            runs = [_line(results.run(arm, seed) or {}, name) for seed in results.seeds(arm)]
            for number, (rounds, values) in enumerate(runs):
                axes.plot(rounds, values, "o-", ms=3, lw=1.3, color=color_of(index), label=arm if number == 0 else None)
        axes.set(title=name.replace("_", " "), xlabel="round", xticks=range(4))
        axes.grid(axis="y", lw=0.5)
    drawing.legend(*drawing.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return drawing


def _line(run: dict[str, Any], name: str) -> tuple[list[int], list[float]]:
    """Rounds and values of a metric; the end of a one-round arm is plotted at round 3, where the others end."""
    count = len(run["rounds"])
    return ([0, 3] if count == 2 else list(range(count))), [metric(run, name, i) for i in range(count)]


def _votes(results: Results) -> Figure | None:
    """Share of false claims in the picked responses, by the number of critiques that a reward is averaged over."""
    records = [best for s in results.seeds(FULL) if (best := (results.run(FULL, s) or {}).get("best_of"))]
    if not records:
        return None
    drawing = Figure(figsize=(5, 3.2), layout="constrained")
    axes = drawing.subplots()
    votes = list(records[0]["votes"])
    axes.plot(
        votes,
        [float(np.mean([b["votes"][k] for b in records])) for k in votes],
        "o-",
        label="picked by the reward model",
    )
    for name, style in (("random", "--"), ("blind", ":")):
        axes.axhline(float(np.mean([b[name] for b in records])), ls=style, color="0.4", label=f"{name} pick")
    axes.set(xlabel="critiques per response (K)", ylabel="share of false claims", ylim=(0, None))
    axes.legend(frameon=False)
    return drawing
