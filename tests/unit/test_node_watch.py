"""The number of nodes over time: what is counted, and what the report shows of it."""

from pathlib import Path
from typing import Any

import pytest
import ray

from vlrm_ray.config import load
from vlrm_ray.pipeline import node_watch
from vlrm_ray.pipeline.run_metrics import RunMetrics
from vlrm_ray.report.nodes import nodes_plot
from vlrm_ray.store.ledger import Ledger


def node(gpus: int = 0, *, alive: bool = True, **labels: str) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": 4, "GPU": gpus}, "Labels": labels}


def test_nodes_are_counted_by_the_label_that_roles_ask_for() -> None:
    nodes = [node(role="cpu"), node(1, role="train"), node(1, role="train"), node(1, alive=False, role="train")]
    assert node_watch.count(nodes, ["role"]) == {"cpu": 1, "train": 2}


def test_nodes_without_it_are_counted_by_their_group_or_by_their_gpus() -> None:
    nodes = [node(), node(1), node(1, **{"ray.io/node-group": "spot"})]
    assert node_watch.count(nodes, ["role"]) == {"spot": 1, "with GPUs": 1, "without GPUs": 1}


def test_each_change_is_one_line_and_only_changes_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([[node(role="cpu")], [node(role="cpu")], [node(role="cpu"), node(1, role="train")]])
    last: list[Any] = []

    def nodes() -> list[Any]:
        last[:] = next(states, last)
        return last

    monkeypatch.setattr(ray, "nodes", nodes)
    monkeypatch.setattr(node_watch, "WATCH_SECONDS", 0.01)
    metrics, logged = RunMetrics(Ledger(str(tmp_path))), list[str]()
    cluster = load(None, ["cluster.labels=role"]).cluster
    with node_watch.recorded(metrics, cluster, logged.append):
        while not logged:
            pass
    assert logged == ["nodes: 1 (cpu 1) -> 2 (cpu 1, train 1)"]
    found = node_watch.changes(RunMetrics(Ledger(str(tmp_path))))
    assert [nodes for _, nodes in found] == [{"cpu": 1}, {"cpu": 1, "train": 1}]


def test_the_report_draws_a_cluster_that_changed() -> None:
    plot = nodes_plot([{"at": 0, "nodes": {"cpu": 1}}, {"at": 9.5, "nodes": {"cpu": 1, "train": 2}}])
    assert plot is not None
    assert plot.text == "Between 1 and 3 nodes: cpu, train."
    assert nodes_plot([{"at": 0, "nodes": {"cpu": 1}}]) is None
