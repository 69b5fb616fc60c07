"""A graph that is executed before its tables are asked for."""

import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from vlrm_ray.pipeline.begun_graph import BegunGraph


class Graph:
    """Stands for a dataset: gives some tables, and says when its execution has begun."""

    def __init__(self, numbers: list[int], error: Exception | None = None) -> None:
        self.numbers, self.error, self.running = numbers, error, threading.Event()
        self.ended = False

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        self.running.set()
        try:
            for number in self.numbers:
                yield pa.table({"part": [number]})
        finally:
            self.ended = True
        if self.error:
            raise self.error


def begun(graph: Graph) -> BegunGraph:
    return BegunGraph(graph)  # type: ignore[arg-type]


def parts(graph: BegunGraph) -> list[int]:
    return [table["part"][0].as_py() for table in graph.tables()]


def test_it_is_executed_before_anybody_asks_for_its_tables() -> None:
    graph = Graph([3, 1, 2])
    started = begun(graph)
    assert graph.running.wait(10)
    assert parts(started) == [3, 1, 2]


def test_a_graph_without_parts_ends() -> None:
    assert parts(begun(Graph([]))) == []


@pytest.mark.parametrize("numbers", [[], [7]])
def test_its_error_is_raised_where_its_tables_are_asked_for(numbers: list[int]) -> None:
    started = begun(Graph(numbers, ValueError("a stage failed")))
    with pytest.raises(ValueError, match="a stage failed"):
        parts(started)


@pytest.mark.parametrize("tables", [1, 2])
def test_it_ends_when_nobody_asks_for_further_tables(tables: int) -> None:
    graph = Graph([3, 1, 2])
    found = begun(graph).tables()
    for _ in range(tables):
        next(found)
    found.close()
    assert graph.ended
