"""How busy the engines, experts and train workers of a run are, sampled by the driver for the metrics."""

import time
from collections import defaultdict
from collections.abc import Mapping, Set
from typing import Any, Protocol

from vlrm_ray.config import Config
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.recorder import Recorder

HITS = " cache hits"
"""End of the names under which stages report how often a cache had the answer."""
ROLES = {"policy": "generate", "critic": "judge", "extractor": "extract", "detect": "expert", "read": "expert"}
"""Roles of actors by the first part of their names; actors of other stages have the role `cpu`."""
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
        self.fleet, self.recorder, self.devices = fleet, recorder, Devices(config)
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

        Work is reported when it ends, so it may be longer than a sample: what exceeds it counts for the next one.
        """
        actors: dict[str, int] = defaultdict(int)
        for name, spent in busy.items():
            if name.partition("-")[0] in self.devices.without:
                continue
            self._owed[role_of(name)] += spent * self.devices.of_actor(role_of(name))
            actors[role_of(name)] += spent > 0 or name in present
        devices = self.devices.by_role(actors)
        used = {role: min(self._owed[role], count * seconds) for role, count in devices.items()}
        for role, count in devices.items():
            self._owed[role] -= used[role]
            self.recorder.record("vlrm_gpu_idle_fraction", 1 - used[role] / (count * seconds), {"role": role})
        if not (total := self.devices.total(devices) * seconds):
            return
        self.recorder.record("vlrm_gpu_idle_fraction", max(0.0, 1 - sum(used.values()) / total), {"role": ALL})


class Devices:
    """The devices of a run by role: its GPUs, or one for each engine and train worker if it has none."""

    def __init__(self, config: Config) -> None:
        """Read how many devices each role reserves; `without` are the pools of experts that have none."""
        policy, critic, train = config.policy.engine, config.critic.engine, config.train
        experts = [config.experts.detector.pool] + [config.experts.reader.pool] * config.experts.reader.enabled
        on_gpus = [pool for pool in experts if pool.gpus]
        self.without = {name for name, pool in zip(("detect", "read"), experts, strict=False) if not pool.gpus}
        self.shared = config.cluster.placement == "phased"
        self._each = {
            "generate": policy.gpus * policy.tensor_parallel,
            "judge": critic.gpus * critic.tensor_parallel,
            "extract": policy.gpus * policy.tensor_parallel,
            "expert": max((pool.gpus for pool in on_gpus), default=0.0),
            "train": train.gpus * train.workers,
        }
        if not any(self._each.values()):
            self._each = {"generate": 1, "judge": 1, "extract": 1, "expert": 0, "train": train.workers}
        self._planned = {
            "generate": policy.actors if config.policy.samples else 0,
            "judge": critic.actors,
            "expert": sum(pool.min for pool in on_gpus),
            "train": 1,
        }

    def of_actor(self, role: str) -> float:
        """Devices of an actor; for `train` those of all workers, which are one actor here."""
        return self._each.get(role, 0)

    def by_role(self, actors: Mapping[str, int]) -> dict[str, float]:
        """Devices by role: of the planned actors, or of the `actors` that are there if those are more."""
        counts = {role: max(self._planned.get(role, 0), actors.get(role, 0)) for role in self._each}
        return {role: count * self._each[role] for role, count in counts.items() if count * self._each[role]}

    def total(self, devices: Mapping[str, float]) -> float:
        """Devices of the whole run. With the placement `phased`, engines and training take turns on the same ones."""
        training = devices.get("train", 0.0)
        engines = sum(devices.get(role, 0.0) for role in ("generate", "judge", "extract"))
        return devices.get("expert", 0.0) + (max(training, engines) if self.shared else training + engines)


def role_of(actor: str) -> str:
    """Role of an actor by its name, such as `judge` for critic-0."""
    return "train" if actor == "train" else ROLES.get(actor.partition("-")[0], "cpu")
