"""A graph that is executed before its tables are asked for."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from ray.data import DataContext
from ray.data.exceptions import ExecutionTimeoutError

from vlrm_ray.config_sections import Cluster
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.begun_graph import BegunGraph
from vlrm_ray.pipeline.graph import configure_ray_data


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


class HeldGraph(Graph):
    """Makes no table until its engines are closed, which is its end."""

    def __init__(self) -> None:
        super().__init__([])
        self.engines_closed = threading.Event()

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        self.running.set()
        self.engines_closed.wait(30)
        self.ended = True
        raise ValueError("the engines are gone")
        yield


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_before_the_first_table_stays_one_and_the_graph_ends_with_its_engines() -> None:
    """A generator that runs in a thread cannot be closed: the error of that must not replace KeyboardInterrupt."""
    graph = HeldGraph()
    started = begun(graph)
    assert graph.running.wait(10)
    main = threading.main_thread().ident or 0
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        parts(started)
    graph.engines_closed.set()
    started.wait(10)
    assert graph.ended


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [({}, 7200), ({"call_timeout": 600}, 3600), ({"call_timeout": 9000}, 18000), ({"start_timeout": 5000}, 10000)],
)
def test_ray_data_gives_up_later_than_calls_and_starts_of_engines(timeouts: dict[str, int], seconds: int) -> None:
    configure_ray_data(Cluster(**timeouts))  # type: ignore[arg-type]
    assert DataContext.get_current().execution_no_progress_timeout_s == seconds


def test_that_it_gives_up_is_one_line_for_the_user() -> None:
    configure_ray_data(Cluster())
    started = begun(Graph([3], ExecutionTimeoutError("made no progress\nOperators still running:")))
    with pytest.raises(
        UserError, match=r"^no stage has finished anything for 7200 s, .*raise cluster\.call_timeout; [^\n]*$"
    ):
        parts(started)
