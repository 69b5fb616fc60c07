"""The training of each round on the page: loss and judgement accuracy by step, and a table of what the steps took."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from vlrm_ray.report.plots import WIDTH
from vlrm_ray.report.svg import Color, Plot, figure, to_plot
from vlrm_ray.report.tables import Cell, JsonObject, Table, TableRow, round_label
from vlrm_ray.report.text import humanize, percent

HEIGHT = 2.2
"""Height of a loss curve in inches."""


def loss_curve(round_: JsonObject) -> Plot | None:
    """Loss (left axis) and judgement accuracy on the batch (right axis) by step; None without a training."""
    training = round_.get("training")
    if not training or not any(point["loss"] is not None for point in training["curve"]):
        return None
    drawing = figure(WIDTH, HEIGHT)
    left = drawing.axes[0]
    losses = _line(left, training["curve"], "loss", 1.0, Color.PRIMARY)
    left.set_ylim(0, 1.08 * max(losses))
    left.set_ylabel("loss", color=Color.PRIMARY)
    left.set_xlabel("step")
    label = round_label(round_["round"])
    text = f"Loss {losses[0]:.2f} at the first and {losses[-1]:.2f} at the last point"
    if any(point["accuracy"] is not None for point in training["curve"]):
        right = left.twinx()
        accuracies = _line(right, training["curve"], "accuracy", 100.0, Color.SECONDARY)
        right.set_ylim(0, 104)
        right.set_yticks([0, 50, 100], ["0", "50", "100 %"])
        right.set_ylabel("right judgements", color=Color.SECONDARY)
        right.grid(False)
        right.spines[:].set_visible(False)
        right.tick_params(length=0, labelcolor=Color.MUTED)
        text += f"; {percent(accuracies[-1] / 100, 0)} right judgements on the last batches"
    return to_plot(drawing, f"{label}: loss and judgement accuracy by step", f"{text}. {training['steps']} steps.")


def _line(axes: Axes, curve: Sequence[JsonObject], name: str, factor: float, color: Color) -> list[float]:
    """Draw a field of the curve; returns its values."""
    points = [(point["step"], factor * point[name]) for point in curve if point[name] is not None]
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, color=color, linewidth=1.6, marker="o" if len(points) < 2 else None, markersize=4)
    return values


def training_table(rounds: Sequence[JsonObject]) -> Table | None:
    """Steps, losses, speed and dropped examples of each round with a training; None without any."""
    trained = [r for r in rounds if r.get("training")]
    if not trained:
        return None
    columns = [round_label(r["round"]) for r in trained]
    fields = [r["training"] for r in trained]
    rows = [
        ("steps", [f"{t['steps']:,}" for t in fields]),
        ("steps skipped, not finite", [f"{t['skipped']:,}" for t in fields]),
        ("loss, first to last step", [f"{_number(t, 'first_loss')} to {_number(t, 'last_loss')}" for t in fields]),
        ("tokens per second", [_number(t, "tokens_per_second", ",.0f") for t in fields]),
        ("time waiting for data", [_share(t, "wait_share") for t in fields]),
        ("FLOPs utilization (MFU)", [_share(t, "mfu") for t in fields]),
        ("peak memory of rank 0, GB", [_number(t, "memory_gb", ".2f") for t in fields]),
    ]
    reasons = sorted({reason for t in fields for reason in t["dropped"]})
    rows += [(f"examples dropped: {humanize(r)}", [f"{t['dropped'].get(r, 0):,}" for t in fields]) for r in reasons]
    shown = [(name, cells) for name, cells in rows if any(cell != "–" for cell in cells)]
    return Table("Training", columns, [TableRow(name, [Cell(cell) for cell in cells]) for name, cells in shown])


def _number(training: JsonObject, name: str, layout: str = ".3g") -> str:
    return format(training[name], layout) if training.get(name) is not None else "–"


def _share(training: JsonObject, name: str) -> str:
    return percent(training[name], 1) if training.get(name) is not None else "–"
