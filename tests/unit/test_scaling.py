"""The number of engines follows the unfinished sequences, at once upwards and slowly downwards."""

import types
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from actors import elastic_engines, fleet
from actors.elastic_engines import DRAIN_SECONDS, RETRY_SECONDS, ElasticEngines
from actors.fleet import RESTARTS_WITH_NODES, Fleet
from vlrm_ray.config import load
from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import Health
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.scaling import ScalingRule
from vlrm_ray.store.ledger import Ledger

# --- the rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("unfinished", "wanted"), [(0, 1), (16, 1), (17, 2), (64, 4), (1000, 4)])
def test_there_is_one_engine_for_as_many_sequences_as_it_works_on(unfinished: int, wanted: int) -> None:
    assert ScalingRule(1, 4, 16).wanted(unfinished, 1, 0.0) == wanted


def test_engines_end_only_when_fewer_were_enough_for_a_while() -> None:
    rule = ScalingRule(1, 4, 16)
    assert rule.wanted(64, 4, 0) == 4
    assert [rule.wanted(16, 4, now) for now in (10, 60, 69)] == [4, 4, 4]
    assert rule.wanted(16, 4, 70) == 1


def test_a_peak_in_between_keeps_the_engines_that_it_needed() -> None:
    rule = ScalingRule(1, 4, 16)
    for now, unfinished in ((0, 0), (30, 40), (31, 0)):
        rule.wanted(unfinished, 4, now)
    assert rule.wanted(0, 4, 61) == 3
    assert rule.wanted(0, 3, 100) == 1


@pytest.mark.parametrize("overrides", [(), ("policy.engine.reproducible=true", "policy.engine.gpus=1")])
def test_a_reproducible_engine_has_a_fixed_number_of_actors(overrides: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="set reproducible=false or max_actors=0"):
        load(None, [*overrides, "policy.engine.max_actors=3"])


# --- the engines --------------------------------------------------------------------------------


class Actor:
    """Stands for an engine's actor, whose methods return their result instead of a reference to it."""

    def __init__(self, name: str, events: list[str], problem: str = "") -> None:
        self.name, self.events, self.started = name, events, False
        self.health = types.SimpleNamespace(remote=lambda: (self, Health(name, 3, "m", problem)))
        self.close = types.SimpleNamespace(remote=lambda: (self, events.append(f"close {name}")))


class World:
    """The engines of a policy between one and three, and what happened to them."""

    def __init__(self, problem: str = "") -> None:
        self.events: list[str] = []
        engine = Engine(actors=1, max_actors=3, max_num_seqs=16, reproducible=False)
        self.actors: dict[str, Actor] = {}
        self.problem = problem
        self.engines = ElasticEngines(
            "policy", engine, {0: Actor("policy-0", self.events)}, self.create, self.admit, self.events.append  # type: ignore[dict-item, arg-type]
        )  # fmt: skip

    def create(self, name: str) -> Any:
        self.actors[name] = Actor(name, self.events, self.problem)
        return self.actors[name]

    def admit(self, actor: Any, version: int) -> None:
        self.events.append(f"admit {actor.name} {version}")

    def step(self, now: float, **unfinished: int) -> None:
        """Look at the engines; one with -1 unfinished sequences has given up."""
        loads = {
            name.replace("_", "-"): {"running": max(0, count), "waiting": 0, "gave_up": count < 0}
            for name, count in unfinished.items()
        }
        self.engines.step(loads, now)


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def wait(references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return [r for r in references if r[0].started], []

    monkeypatch.setattr(elastic_engines.ray, "wait", wait)
    monkeypatch.setattr(elastic_engines.ray, "get", lambda reference, timeout=None: reference[1])
    monkeypatch.setattr(elastic_engines.ray, "kill", lambda actor: actor.events.append(f"kill {actor.name}"))
    yield


def test_engines_get_requests_once_they_have_started() -> None:
    world = World()
    world.step(0, policy_0=40)
    assert sorted(world.actors) == ["policy-1", "policy-2"]
    assert sorted(world.engines.present()) == [0]
    world.actors["policy-2"].started = True
    world.step(1, policy_0=40)
    assert sorted(world.engines.present()) == [0, 2]
    assert world.events == ["policy engines: 1 -> 3, for 40 unfinished sequences", "admit policy-2 3"]


def test_an_engine_ends_when_it_has_answered_everything() -> None:
    world = World()
    world.step(0, policy_0=20)
    world.actors["policy-1"].started = True
    world.step(1, policy_0=20)
    for now in (2, 63):
        world.step(now, policy_0=0, policy_1=1)
    assert sorted(world.engines.present()) == [0]
    world.step(63 + DRAIN_SECONDS, policy_0=0, policy_1=1)
    assert "close policy-1" not in world.events
    world.step(64 + DRAIN_SECONDS, policy_0=0, policy_1=0)
    assert world.events[-2:] == ["close policy-1", "kill policy-1"]


def test_an_engine_that_is_ending_takes_requests_again_if_there_are_more() -> None:
    world = World()
    world.step(0, policy_0=20)
    world.actors["policy-1"].started = True
    world.step(1, policy_0=20)
    for now in (2, 63):
        world.step(now, policy_0=0, policy_1=0)
    world.step(64, policy_0=20, policy_1=0)
    assert sorted(world.engines.present()) == [0, 1]
    assert len(world.actors) == 1


def test_no_engine_ends_while_another_one_does_not_answer() -> None:
    world = World()
    world.step(0, policy_0=40)
    for number in (1, 2):
        world.actors[f"policy-{number}"].started = True
    world.step(1, policy_0=40, policy_1=0, policy_2=0)
    for now in range(2, 200, 2):  # the node of policy-1 is lost, with the sequences that it worked on
        world.step(now, policy_0=0, policy_2=0)
    assert sorted(world.engines.present()) == [0, 1, 2]
    world.step(200, policy_0=0, policy_1=20, policy_2=0)
    assert sorted(world.engines.present()) == [0, 1, 2]
    for now in (202, 264):
        world.step(now, policy_0=0, policy_1=0, policy_2=0)
    assert sorted(world.engines.present()) == [0]


def test_an_engine_that_has_given_up_ends_and_is_replaced() -> None:
    world = World()
    world.step(0, policy_0=20)
    world.actors["policy-1"].started = True
    world.step(1, policy_0=20)
    world.step(2, policy_0=20, policy_1=-1)
    assert sorted(world.engines.present()) == [0]
    assert "policy-2" in world.actors  # policy-1 is not taken back
    world.actors["policy-2"].started = True
    world.step(2 + DRAIN_SECONDS, policy_0=20, policy_1=-1, policy_2=0)
    assert sorted(world.engines.present()) == [0, 2]
    assert "kill policy-1" in world.events


def test_a_permanent_engine_that_has_given_up_is_replaced_until_it_is_back() -> None:
    world = World()
    world.step(0, policy_0=-1)
    assert sorted(world.actors) == ["policy-1"]
    world.actors["policy-1"].started = True
    world.step(1, policy_0=-1)
    for now in (2, 63):
        world.step(now, policy_0=0, policy_1=0)
    assert sorted(world.engines.present()) == [0]


def test_an_engine_that_still_waits_for_a_node_is_given_up_when_it_is_no_longer_needed() -> None:
    world = World()
    world.step(0, policy_0=20)
    for now in (1, 62):
        world.step(now, policy_0=0)
    assert world.events[-2:] == ["kill policy-1", "policy engines: 2 -> 1, for 0 unfinished sequences"]


def test_an_engine_that_cannot_load_the_newest_version_is_reported_and_ended() -> None:
    world = World()

    def too_late(actor: Any, version: int) -> None:
        raise UserError("policy-1 has not answered in 600 s")

    world.engines.admit = too_late
    world.step(0, policy_0=20)
    world.actors["policy-1"].started = True
    world.step(1, policy_0=40)
    assert world.events[1:] == [
        "policy engines: no more are started for 600 s: policy-1 has not answered in 600 s",
        "kill policy-1",
    ]
    assert sorted(world.engines.present()) == [0]


def test_after_an_engine_that_cannot_start_the_next_one_starts_ten_minutes_later() -> None:
    world = World("out of memory")
    world.step(0, policy_0=20)
    world.actors["policy-1"].started = True
    world.step(1, policy_0=40)
    world.step(2, policy_0=40)
    failed = ["policy engines: no more are started for 600 s: out of memory", "kill policy-1"]
    assert world.events[1:] == failed
    assert sorted(world.engines.present()) == [0]
    world.step(1 + RETRY_SECONDS, policy_0=40)
    assert world.events[3].startswith("policy engines: 1 -> ")


def test_a_version_is_loaded_into_critics_that_are_ending_too_as_they_may_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def critic(name: str) -> Any:
        load_ = types.SimpleNamespace(remote=lambda model, *_: loaded.append(f"{name} {model}"))
        return types.SimpleNamespace(load=load_)

    monkeypatch.setattr(fleet, "get_of_some", lambda references, *_: [0.0] * len(references))
    config = load(None, ["critic.engine.reproducible=false", "critic.engine.max_actors=3"])
    critics = Fleet(config, Ledger(str(tmp_path)), board=types.SimpleNamespace())  # type: ignore[arg-type]
    critics.critics, critics.versions = [critic("critic-0")], [0]
    engines = ElasticEngines(
        "critic", config.critic.engine, {0: critics.critics[0]}, critic, lambda *_: None, loaded.append
    )
    engines.open[1], engines._draining[2] = critic("critic-1"), (critic("critic-2"), 0.0)
    of_policy = {"policy-1": critic("policy-1")}
    critics.scaling = types.SimpleNamespace(named=lambda: engines.named() | of_policy, paused=nullcontext)  # type: ignore[assignment]
    critics.load(1)
    assert sorted(loaded) == ["critic-0 version:1", "critic-1 version:1", "critic-2 version:1"]


@pytest.mark.parametrize(
    ("overrides", "restarts", "retries"),
    [
        (("actors=1",), 2, 2),
        (("actors=16",), RESTARTS_WITH_NODES, 2),
        (("actors=1", "max_actors=3"), RESTARTS_WITH_NODES, RESTARTS_WITH_NODES),
    ],
)
def test_engines_may_start_more_often_where_others_work_meanwhile(
    overrides: tuple[str, ...], restarts: int, retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet.ray, "remote", lambda kind: types.SimpleNamespace(options=dict))
    config = load(None, ["critic.engine.reproducible=false", *(f"critic.engine.{each}" for each in overrides)])
    critics = Fleet(config, Ledger(str(tmp_path)), board=types.SimpleNamespace())  # type: ignore[arg-type]
    options = critics._remote(Actor, config.critic.engine, "critic-0")
    assert (options["max_restarts"], options["max_task_retries"]) == (restarts, retries)
