"""The progress board is lost with its process or node, and no call of the driver fails for it."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.fleet import Fleet
from vlrm_ray import config as configuration
from vlrm_ray.pipeline import board_client
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.stage_actors import ProgressReporter
from vlrm_ray.store.ledger import Ledger

pytestmark = pytest.mark.usefixtures("ray_cluster")
DEADLINE = 60.0
"""Time in which Ray starts an actor again: many times what it takes."""


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert true()


def end_process(actor: Any) -> None:
    """End the process of an actor as the loss of its node does: Ray starts the actor again if it may."""
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)


def test_a_board_that_is_lost_is_started_again_and_counts_from_nothing(tmp_path: Path) -> None:
    with closing(Fleet(configuration.load(None, []), Ledger(str(tmp_path)))) as fleet:
        reporter = ProgressReporter(fleet.board.handle)
        for index in range(5):
            reporter.add("generate", 1, 0.5, "policy-0")
            ray.get(fleet.board.handle.add_step.remote({"step": index}))
        position, _ = fleet.board.steps(0)
        assert fleet.board.counts() == {"generate": 5}
        end_process(fleet.board.handle)
        reporter.add("generate", 1, 0.5, "policy-0")
        wait_until(lambda: fleet.board.counts().get("generate"))
        assert fleet.board.counts() == {"generate": 1}
        assert (fleet.board.seconds().keys(), fleet.board.spans().keys()) == ({"generate"}, {"policy-0"})
        ray.get(fleet.board.handle.add_step.remote({"step": 7}))
        position, records = fleet.board.steps(position)  # the record is new, though there were more before
        assert records == [{"step": 7}]
        assert fleet.board.steps(position) == (position, [])


class Slow:
    """A board that answers no call in time."""

    def counts(self) -> None:
        time.sleep(1000)

    busy = actor_seconds = clear = clear_times = counts

    def steps(self, start: int) -> None:
        time.sleep(1000)


@pytest.mark.parametrize("lost", [True, False])
def test_a_board_that_does_not_answer_is_logged_once_and_tells_nothing(
    lost: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(board_client, "REPORT_TIMEOUT", 0.3)
    board = BoardClient(ray.remote(Slow).options(num_cpus=0).remote())
    if lost:
        ray.kill(board.handle)
    for _ in range(2):
        board.reset_counts()
        assert (board.counts(), board.seconds(), board.spans(), board.actor_seconds()) == ({}, {}, {}, {})
        assert board.steps(3) == (3, [])
    told = [record.getMessage() for record in caplog.records if "progress board" in record.getMessage()]
    assert len(told) == 1
    assert told[0].endswith("the run goes on, but shows less of itself")
    ray.kill(board.handle)
