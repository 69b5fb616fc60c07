"""Reliability diagram: accuracy of verdicts against their confidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vlrm_ray.errors import UserError

Bins = Sequence[Mapping[str, float | int]]
"""Bins of one curve; each has `n`, the mean `confidence` and the `accuracy` of its verdicts."""


def draw(curves: Mapping[str, Bins], file: Path) -> None:
    """Write a reliability diagram as SVG, one curve per name.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5))
    axes = figure.add_subplot(xlabel="confidence of the verdict", ylabel="share of correct verdicts")
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--")
    for name, bins in curves.items():
        label = f"{name.replace('_', ' ')} ({sum(b['n'] for b in bins)} verdicts)"
        axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], marker="o", label=label)
    axes.set(xlim=(0.9, 1.002), ylim=(0.9, 1.002))
    axes.legend()
    try:
        figure.savefig(file, format="svg")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; choose a writable path") from error
