"""Engines of one role beyond its permanent ones: they start while requests wait, and end when fewer are enough."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError

from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import Health
from vlrm_ray.errors import last_line
from vlrm_ray.pipeline.scaling import ScalingRule

SCALE_SECONDS = 2.0
"""Interval at which the number of engines is looked at."""
DRAIN_SECONDS = 10.0
"""Time between taking an engine out of the directory, which callers ask every second, and its end without any request."""
RETRY_SECONDS = 600.0
"""Time after an engine has failed to start before another one may: others would fail in the same way, but not for ever."""
CLOSE_SECONDS = 20
"""Timeout for an engine to shut down; after that its actor is killed."""


@dataclass
class ElasticEngines:
    """Starts and ends the engines of one role. An engine that waits for resources is what makes Ray's autoscaler add a node.

    Attributes:
        role: "policy" or "critic".
        engine: settings of the role.
        permanent: the engines that are always there, by number.
        create: starts the actor with a name.
        admit: called with an engine that has started and its version, before it gets requests.
        log: prints a line.
        open: the other engines that take requests, by number.
    """

    role: str
    engine: Engine
    permanent: Mapping[int, ActorHandle[Any]]
    create: Callable[[str], ActorHandle[Any]]
    admit: Callable[[ActorHandle[Any], int], None]
    log: Callable[[str], None]
    open: dict[int, ActorHandle[Any]] = field(default_factory=dict)
    _starting: dict[int, tuple[ActorHandle[Any], Any]] = field(default_factory=dict)
    _draining: dict[int, tuple[ActorHandle[Any], float]] = field(default_factory=dict)
    _next_start: float = 0.0

    def __post_init__(self) -> None:
        self.rule = ScalingRule(self.engine.actors, self.engine.most_actors, self.engine.max_num_seqs)

    def named(self) -> dict[str, ActorHandle[Any]]:
        """All engines that have started, by the name of the actor."""
        engines = self.open | {number: handle for number, (handle, _) in self._draining.items()}
        return {f"{self.role}-{number}": handle for number, handle in engines.items()}

    def present(self) -> dict[int, ActorHandle[Any]]:
        """All engines that take requests, by number."""
        return {**self.permanent, **self.open}

    def step(self, loads: Mapping[str, Mapping[str, int]], now: float) -> None:
        """Start or end engines.

        Args:
            loads: `running` and `waiting` sequences of each engine that answers, by the name of the actor, and whether it
                `gave_up`: such an engine ends, and another one may start in its place.
            now: time in seconds.
        """
        gave_up = {name for name, load in loads.items() if load["gave_up"]}
        unfinished = {name: load["running"] + load["waiting"] for name, load in loads.items()}
        self._admit_started(now)
        self._end_drained(unfinished, now)
        for number in [number for number in self.open if f"{self.role}-{number}" in gave_up]:
            self._draining[number] = self.open.pop(number), now
            self.log(f"{self.role} engines: {self.role}-{number} has given up and ends")
        of_role = sum(count for name, count in unfinished.items() if name.startswith(f"{self.role}-"))
        permanent = sum(f"{self.role}-{number}" not in gave_up for number in self.permanent)
        count = permanent + len(self.open) + len(self._starting)
        if any(f"{self.role}-{number}" not in loads for number in self.present()):
            of_role = max(of_role, count * self.engine.max_num_seqs)  # it has work that is not known: none may end
        wanted = self.rule.wanted(of_role, count, now)
        if wanted > count and now < self._next_start:
            return
        if wanted > count:
            self._grow(wanted - count, gave_up)
        elif wanted < count:
            self._shrink(count - wanted, now)
        if wanted != count:
            self.log(f"{self.role} engines: {count} -> {wanted}, for {of_role} unfinished sequences")

    def close(self) -> None:
        """End all of these engines at once."""
        for handle in self.named().values():
            _end(handle)
        for handle, _ in self._starting.values():
            ray.kill(handle)
        self.open, self._starting, self._draining = {}, {}, {}

    def _grow(self, count: int, gave_up: Collection[str]) -> None:
        back = sorted(number for number in self._draining if f"{self.role}-{number}" not in gave_up)[:count]
        for number in back:  # they have their weights already
            self.open[number] = self._draining.pop(number)[0]
        used = self.open.keys() | self._starting.keys() | self._draining.keys()
        free = [n for n in range(self.engine.actors, self.engine.most_actors) if n not in used]
        for number in free[: count - len(back)]:
            handle = self.create(f"{self.role}-{number}")
            self._starting[number] = handle, handle.health.remote()

    def _shrink(self, count: int, now: float) -> None:
        for number in sorted(self._starting, reverse=True)[:count]:  # they may wait for a node that is no longer needed
            ray.kill(self._starting.pop(number)[0])
            count -= 1
        for number in sorted(self.open, reverse=True)[:count]:
            self._draining[number] = self.open.pop(number), now

    def _admit_started(self, now: float) -> None:
        """Let the engines that have started take requests."""
        started = [n for n, (_, health) in self._starting.items() if ray.wait([health], timeout=0)[0]]
        for number in started:
            handle, reference = self._starting.pop(number)
            try:
                health: Health = ray.get(reference)
                if not health.problem:
                    self.admit(handle, health.version)
            except Exception as error:  # whatever it is, the actor must not stay behind
                health = Health(f"{self.role}-{number}", 0, "", last_line(error))
            if health.problem:
                self._next_start = now + RETRY_SECONDS
                self.log(f"{self.role} engines: no more are started for {RETRY_SECONDS:g} s: {health.problem}")
                ray.kill(handle)
            else:
                self.open[number] = handle

    def _end_drained(self, unfinished: Mapping[str, int], now: float) -> None:
        """End the engines that get no more requests and have answered all."""
        for number, (handle, since) in list(self._draining.items()):
            if now - since >= DRAIN_SECONDS and not unfinished.get(f"{self.role}-{number}", 1):
                del self._draining[number]
                _end(handle)


class Scaling:
    """Lets the number of engines of some roles follow the work, in a thread of the driver.

    Attributes:
        directory: handle of the `EngineDirectory`, which the stages of the graph ask. It is told the engines again and again:
            one that Ray has started again knows none.
    """

    def __init__(
        self,
        engines: Mapping[str, ElasticEngines],
        directory: ActorHandle[Any],
        loads: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        """Start.

        Args:
            engines: the engines of each role.
            directory: handle of an `EngineDirectory`.
            loads: returns `running` and `waiting` sequences of each engine that answers, by the name of the actor.
        """
        self.engines, self.directory, self.loads = engines, directory, loads
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def open(self, role: str) -> dict[int, ActorHandle[Any]]:
        """The engines of a role that take requests, by number, without the permanent ones."""
        return dict(self.engines[role].open) if role in self.engines else {}

    def named(self) -> dict[str, ActorHandle[Any]]:
        """All engines that have started, without the permanent ones, by the name of the actor."""
        return {name: handle for engines in self.engines.values() for name, handle in engines.named().items()}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context manager: no engine starts to take requests, and none ends."""
        with self._lock:
            yield

    def close(self) -> None:
        """End all engines but the permanent ones."""
        self._stop.set()
        self._thread.join()
        for engines in self.engines.values():
            engines.close()
        ray.kill(self.directory)

    def _run(self) -> None:
        told = ""
        while not self._stop.wait(SCALE_SECONDS):
            try:
                self._step()
            except Exception as error:  # the thread must go on after any error, or the engines would stay as they are
                if str(error) != told:
                    told = str(error)
                    next(iter(self.engines.values())).log(f"the number of engines was not adapted to the work: {told}")

    def _step(self) -> None:
        loads = self.loads()
        with self._lock:
            for role, engines in self.engines.items():
                engines.step(loads, time.monotonic())
                self.directory.set_engines.remote(role, engines.present())


def _end(handle: ActorHandle[Any]) -> None:
    with suppress(RayError, GetTimeoutError):  # the actor is dead or hangs
        ray.get(handle.close.remote(), timeout=CLOSE_SECONDS)
    ray.kill(handle)
