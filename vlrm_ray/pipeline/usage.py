"""How busy the engines, experts and train workers of a run are, sampled by the driver for the metrics."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any, Protocol

from vlrm_ray.config import Config
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.recorder import Recorder
from vlrm_ray.pipeline.resource_plan import Devices

HITS = " cache hits"
"""End of the names under which stages report how often a cache had the answer."""
EXPERTS = ("detect", "read")
"""Names of the experts among the devices; both have the role `expert`."""
TRAIN = "train"
COUNTED = ("generate", "judge", "extract", TRAIN)
"""Devices that count without GPUs too, by name, which is their role; those of data stages have the role `cpu`."""
ALL = "all"


class Watched(Protocol):
    """The part of a fleet that is watched; `actors/fleet.py` implements it.

    Attributes:
        board: the progress board, on which the stages and the training report.
    """

    board: BoardClient

    def loads(self) -> Mapping[str, Mapping[str, Any]]:
        """The load report of each engine by the name of its actor."""
        ...


class Usage:
    """Asks a fleet what it does, and records the differences to the sample before."""

    def __init__(self, config: Config, fleet: Watched, recorder: Recorder) -> None:
        """Begin now; steps that were trained before do not count."""
        self.fleet, self.recorder, self.devices = fleet, recorder, watched_devices(config)
        self._before: dict[tuple[str, str], float] = {}
        self._owed: dict[str, float] = defaultdict(float)
        (self._steps, _), self._at = fleet.board.steps(0), time.monotonic()
        self._engines: set[str] = set()

    def sample(self) -> None:
        """Record a sample; an error is reported by the recorder and never raised."""
        try:
            now = time.monotonic()
            loads = self.fleet.loads()
            busy = self._sample_engines(loads) | self._sample_pools() | self._sample_training()
            self._record_idle(busy, loads.keys(), now - self._at)
            self._at = now
        except Exception as error:  # a run must not end because it cannot be watched
            self.recorder.report(error)

    def _sample_engines(self, loads: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        busy = {}
        for name in self._engines - loads.keys():  # it was stopped, or does not answer
            loads = {**loads, name: {"running": 0, "waiting": 0}}
        self._engines |= loads.keys()
        for name, load in loads.items():
            tags = {"role": role_of(name), "actor": name}
            self.recorder.record("vlrm_engine_running", load["running"], tags)
            self.recorder.record("vlrm_engine_waiting", load["waiting"], tags)
            self.recorder.record("vlrm_engine_tokens", self._gained(name, "tokens", load.get("tokens", 0)), tags)
            busy[name] = self._gained(name, "busy", load.get("busy_seconds", 0.0))
            self.recorder.record("vlrm_busy_seconds", busy[name], tags)
        return busy

    def _sample_pools(self) -> dict[str, float]:
        for stage, count in self.fleet.board.counts().items():
            gained, hits = self._gained(stage, "rows", count), stage.endswith(HITS)
            name, tag = ("vlrm_cache_hits", stage.removesuffix(HITS)) if hits else ("vlrm_rows", stage)
            if " " not in tag:  # other counts of a stage, such as "generate cut", are no stage
                self.recorder.record(name, gained, {"stage": tag})
        busy = {}
        for name, seconds in self.fleet.board.actor_seconds().items():
            if name not in self._engines:  # those count their time themselves, also outside the graph
                busy[name] = self._gained(name, "busy", seconds)
                self.recorder.record("vlrm_busy_seconds", busy[name], {"role": role_of(name), "actor": name})
        return busy

    def _sample_training(self) -> dict[str, float]:
        self._steps, records = self.fleet.board.steps(self._steps)
        seconds = sum((record["seconds"] or 0.0) - (record["wait_seconds"] or 0.0) for record in records)
        self.recorder.record("vlrm_busy_seconds", seconds, {"role": "train", "actor": "train"})
        return {"train": seconds}

    def _gained(self, name: str, field: str, value: float) -> float:
        """What a count has gained since the last sample. One that is smaller than before has started again."""
        before = self._before.get((name, field), 0)
        if value or not before:
            self._before[name, field] = value
        else:  # the engine does not answer
            return 0
        return value - before if value >= before else value

    def _record_idle(self, busy: Mapping[str, float], present: Set[str], seconds: float) -> None:
        """Record the idle share of each role's devices in the last `seconds`; engines that are `present` have some, also idle.

        Work is reported when it ends, so it may be longer than a sample: what exceeds it counts for the actor's next ones.
        An actor of a pool is there while it has work left to count.
        """
        there, used = Counter[str](), dict.fromkeys(self.devices, 0.0)
        for actor in busy.keys() | self._owed.keys():
            if device := self.devices.get(name := resource_plan.device_name(actor)):
                gpus = device.gpus * (device.actors if name == TRAIN else 1)
                owed = self._owed[actor] + busy.get(actor, 0.0) * gpus
                spent = min(owed, gpus * seconds)
                self._owed[actor] = owed - spent
                there[name] += spent > 0 or actor in present
                used[name] += spent
        actors = {name: max(device.actors, there[name]) for name, device in self.devices.items()}
        time_of = {name: actors[name] * device.gpus * seconds for name, device in self.devices.items()}
        for role in dict.fromkeys(map(_role_of_devices, used)):
            names = [name for name in used if _role_of_devices(name) == role]
            idle = 1 - sum(used[name] for name in names) / sum(time_of[name] for name in names)
            self.recorder.record("vlrm_gpu_idle_fraction", idle, {"role": role})
        if total := resource_plan.at_once(self.devices, actors) * seconds:
            self.recorder.record("vlrm_gpu_idle_fraction", max(0.0, 1 - sum(used.values()) / total), {"role": ALL})


def watched_devices(config: Config) -> dict[str, Devices]:
    """The GPUs of a run by role; without any, each engine and train worker counts as one."""
    devices = resource_plan.devices(config)
    with_gpus = {name: device for name, device in devices.items() if device.gpus}
    return with_gpus or {name: replace(devices[name], gpus=1) for name in COUNTED if name in devices}


def role_of(actor: str) -> str:
    """Role of an actor by its name, such as `judge` for critic-0."""
    return _role_of_devices(resource_plan.device_name(actor))


def _role_of_devices(name: str) -> str:
    return "expert" if name in EXPERTS else name if name in COUNTED else "cpu"
