"""A version is loaded although one of several critics has no engine; a critic that runs and is late is not left out."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.engine_actors import is_restarting
from vlrm_ray.engines import EngineDied
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import engine_calls
from vlrm_ray.pipeline.engine_calls import ActorDied, get_of_some

pytestmark = pytest.mark.usefixtures("ray_cluster")


@ray.remote(num_cpus=0.1, max_restarts=1, max_task_retries=1)
class Critic:
    """Stands for a critic: it loads at once, has given up, or takes long to load or to start again."""

    def __init__(self, marker: Path | None = None) -> None:
        if marker is not None and marker.exists():
            time.sleep(60)
        if marker is not None:
            marker.touch()

    def pid(self) -> int:
        return os.getpid()

    def load(self, seconds: float = 0.0, gave_up: bool = False) -> float:
        time.sleep(seconds)
        if gave_up:
            raise EngineDied("critic-1 on node a has no running engine: exit code -9")
        return 0.5


@pytest.fixture
def critics(tmp_path: Path) -> list[Any]:
    handles = [Critic.remote(tmp_path / "marker" if i == 1 else None) for i in range(2)]
    ray.get([handle.pid.remote() for handle in handles])
    return handles


def loaded(
    critics: list[Any], calls: list[Any], told: Callable[[str], None] = print, timeout: float = 3.0
) -> list[float]:
    return get_of_some(
        {f"critic-{i}": call for i, call in enumerate(calls)},
        timeout,
        "loading version 2",
        "cluster.start_timeout",
        lambda name: is_restarting(critics[int(name[-1])]),
        told,
    )


def test_a_critic_that_has_given_up_is_left_out(critics: list[Any]) -> None:
    told: list[str] = []
    assert loaded(critics, [critics[0].load.remote(), critics[1].load.remote(0.0, True)], told.append) == [0.5]
    assert told == ["critic-1 on node a has no running engine: exit code -9"]


def test_without_any_other_critic_its_error_counts(critics: list[Any]) -> None:
    with pytest.raises(EngineDied, match="critic-1 on node a has no running engine"):
        loaded(critics, [critics[1].load.remote(0.0, True)])


def test_a_critic_that_is_late_is_not_left_out_since_it_holds_the_old_weights(critics: list[Any]) -> None:
    with pytest.raises(UserError, match=r"^critic-1: no answer within 3 s while waiting for loading version 2"):
        loaded(critics, [critics[0].load.remote(), critics[1].load.remote(60.0)])


def test_a_critic_that_is_starting_again_is_left_out_since_it_looks_the_version_up(critics: list[Any]) -> None:
    os.kill(ray.get(critics[1].pid.remote()), signal.SIGKILL)
    time.sleep(1.0)
    assert loaded(critics, [critic.load.remote() for critic in critics]) == [0.5]


def test_it_is_waited_for_only_as_long_as_a_start_may_take(critics: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_calls, "RESTART_SECONDS", 1.0)
    os.kill(ray.get(critics[1].pid.remote()), signal.SIGKILL)
    time.sleep(1.0)
    began = time.monotonic()
    assert loaded(critics, [critic.load.remote() for critic in critics], timeout=3600.0) == [0.5]
    assert time.monotonic() - began < 50  # it is back after 60 s


def test_a_critic_that_is_dead_for_good_is_left_out(critics: list[Any]) -> None:
    ray.kill(critics[1])
    assert loaded(critics, [critic.load.remote() for critic in critics]) == [0.5]
    with pytest.raises(ActorDied, match="critic-0 died"):
        loaded(critics, [critics[1].load.remote()])
