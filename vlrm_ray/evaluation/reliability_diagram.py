"""The reliability diagram: how often verdicts of a confidence are right."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vlrm_ray.errors import UserError

Bins = Sequence[Mapping[str, float | int]]


def draw(curves: Mapping[str, Bins], file: Path) -> None:
    """Draw the curves, each bin's accuracy over its mean confidence, as SVG; raises UserError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5))
    axes = figure.add_subplot(xlabel="confidence of the verdict", ylabel="share of right verdicts")
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--")
    for name, bins in curves.items():
        label = f"{name.replace('_', ' ')} ({sum(b['n'] for b in bins)} verdicts)"
        axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], marker="o", label=label)
    axes.set(xlim=(0.9, 1.002), ylim=(0.9, 1.002))
    axes.legend()
    try:
        figure.savefig(file, format="svg")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error
