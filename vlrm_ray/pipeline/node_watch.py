"""How many nodes the cluster has over time, as lines of `metrics/nodes-*.jsonl`, one for each change.

    {"time": 1764190000.0, "nodes": {"cpu": 1, "generate": 3}}

Nodes are counted by their kind: the value of a label that the run's roles ask for, or of the label that Ray's autoscaler
or KubeRay gives to a group of nodes; otherwise by whether they have GPUs.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vlrm_ray.config_sections import Cluster
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.pipeline.run_metrics import NODES, RunMetrics

WATCH_SECONDS = 2.0
"""Interval at which the nodes are counted."""
GROUP_LABELS = ("ray.io/node-group",)
"""Labels that name a group of nodes on any cluster."""


@contextmanager
def recorded(metrics: RunMetrics, cluster: Cluster, log: Callable[[str], None]) -> Iterator[None]:
    """Context manager: changes of the number of nodes are recorded, and logged from the second one on.

    Args:
        metrics: where the lines are written.
        cluster: configuration of the cluster, with the labels that the run's roles ask for.
        log: prints a line.
    """
    labels = {key for selector in cluster.labels.values() for key in selector}
    last: dict[str, int] = {}

    def look() -> None:
        nonlocal last
        import ray

        metrics.write_due()
        found = count(ray.nodes(), labels)
        if found != last:
            if last:
                log(f"nodes: {text(last)} -> {text(found)}")
            last = found
            metrics.add(NODES, {"time": round(time.time(), 1), "nodes": found})

    try:
        with repeated(look, WATCH_SECONDS, "counting the nodes"):
            yield
    finally:
        metrics.write()


def count(nodes: Sequence[Mapping[str, Any]], labels: Collection[str]) -> dict[str, int]:
    """Living nodes by kind.

    Args:
        nodes: what `ray.nodes` returns.
        labels: labels whose value is the kind, if a node has one of them.
    """
    kinds = (_kind(node, (*labels, *GROUP_LABELS)) for node in nodes if node["Alive"])
    return dict(sorted(Counter(kinds).items()))


def _kind(node: Mapping[str, Any], labels: Collection[str]) -> str:
    given = node.get("Labels") or {}
    named = next((str(given[label]) for label in labels if given.get(label)), "")
    return named or ("with GPUs" if node["Resources"].get("GPU") else "without GPUs")


def text(nodes: Mapping[str, int]) -> str:
    """Numbers of nodes, such as "2 (cpu 1, generate 1)"."""
    return f"{sum(nodes.values())} ({', '.join(f'{kind} {number}' for kind, number in nodes.items())})"


def changes(metrics: RunMetrics) -> list[tuple[float, dict[str, int]]]:
    """The recorded changes of all sessions, as (Unix time, nodes by kind)."""
    return [(line["time"], dict(line["nodes"])) for line in metrics.read(NODES)]
