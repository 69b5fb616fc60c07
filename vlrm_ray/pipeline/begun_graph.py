"""A graph whose execution begins before its tables are asked for."""

from collections.abc import Generator
from contextlib import closing

import pyarrow as pa
import ray.data
from ray.data import DataContext
from ray.data.exceptions import ExecutionTimeoutError

from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.background import Task


def tables(graph: ray.data.Dataset) -> Generator[pa.Table, None, None]:
    """The tables of a graph, one for each part, as they are finished; the first one starts its execution.

    If the generator is closed, the execution ends.

    Raises:
        UserError: no part has moved on for so long that Ray Data gave up.
    """
    try:
        yield from graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except ExecutionTimeoutError as error:
        seconds = DataContext.get_current().execution_no_progress_timeout_s
        raise UserError(
            f"no stage has finished anything for {seconds:g} s, so the round was given up; see the actors in the Ray dashboard "
            "and what they wait for, or raise cluster.call_timeout; then run the same command again to resume"
        ) from error


class BegunGraph:
    """A graph that is executed from now on, so that its pools of actors start while something else is done."""

    def __init__(self, graph: ray.data.Dataset) -> None:
        """Begin in a thread, which waits for the first table."""
        self._tables = tables(graph)
        self._first: Task[pa.Table | None] = Task(lambda: next(self._tables, None), "begun-graph")

    def wait(self, seconds: float) -> None:
        """Wait at most some seconds until the first table is there, or the execution has failed."""
        self._first.wait(seconds)

    def tables(self) -> Generator[pa.Table, None, None]:
        """The tables of the graph; to be called once. Raises what the execution has raised.

        If the generator is closed after the first table, the execution ends. An interrupt before it leaves the execution to
        its thread, which ends with the engines; see `wait`.
        """
        first = self._first.result()  # the thread runs the generator until then, so it cannot be closed here
        with closing(self._tables):
            if first is not None:
                yield first
                yield from self._tables
