"""The number of nodes of a run's cluster over time, as a plot; none for a cluster that did not change."""

from collections.abc import Sequence

from vlrm_ray.report.svg import Color, Plot, figure, to_plot
from vlrm_ray.report.tables import JsonObject

COLORS = (Color.PRIMARY, Color.SECONDARY, Color.MUTED, Color.LINE)


def nodes_plot(nodes: Sequence[JsonObject]) -> Plot | None:
    """Draw the entry `nodes` of `report.json`: nodes by kind, stacked, over the seconds of the run."""
    if len(nodes) < 2:
        return None
    kinds = list(dict.fromkeys(kind for change in nodes for kind in change["nodes"]))
    times = [change["at"] for change in nodes]
    drawing = figure(9.6, 1.8)
    axes = drawing.axes[0]
    base = [0] * len(nodes)
    for index, kind in enumerate(kinds):
        top = [low + change["nodes"].get(kind, 0) for low, change in zip(base, nodes, strict=True)]
        color = COLORS[index % len(COLORS)]
        axes.fill_between(
            times, base, top, step="post", color=color, alpha=0.35 + 0.6 / (1 + index), linewidth=0, label=kind
        )
        base = top
    axes.set_ylim(0, max(base) + 0.5)
    axes.set_xlim(times[0], times[-1])
    axes.set_xlabel("seconds")
    axes.set_ylabel("nodes")
    axes.legend(loc="upper left", ncols=len(kinds), frameon=False)
    most = max(sum(change["nodes"].values()) for change in nodes)
    text = f"Between {min(sum(change['nodes'].values()) for change in nodes)} and {most} nodes: {', '.join(kinds)}."
    return to_plot(drawing, "Nodes of the cluster", text)
