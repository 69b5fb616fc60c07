"""How busy a run's GPUs were, and how they would be divided best among generating, judging and training.

An engine is busy while it has requests, a trainer during its steps, an expert while it looks at images. An evaluation keeps
the critics busy. Configurations and results are JSON, so that this works for a run of another version of the package.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TypeVar

from vlrm_ray.config import Config
from vlrm_ray.config_sections import Section
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.resource_plan import Devices

JsonObject = Mapping[str, Any]
Results = Mapping[int, Mapping[str, JsonObject]]
"""Results of the finished stages, by round."""
Spans = Sequence[tuple[float, float]]
GENERATE, JUDGE, TRAIN = ROLES = ("generate", "judge", "train")
"""The roles among which the advice divides the GPUs."""
RECORD = "devices"
"""Entry of the results of `select` and `train` with the GPUs that they had."""
_S = TypeVar("_S", bound=Section)


def record(config: Config) -> dict[str, Any]:
    """The GPUs by role as an entry of a stage's result: a run may resume with other numbers of actors and workers."""
    return {RECORD: {name: asdict(role) for name, role in resource_plan.devices(config).items() if role.gpus}}


def _planned(config: JsonObject) -> dict[str, Devices]:
    """The GPUs by role of a configuration."""
    planned = resource_plan.devices(_updated(Config(), config))
    return {name: role for name, role in planned.items() if role.gpus}


def _updated(section: _S, content: JsonObject) -> _S:
    """A section with the values of `content`, as far as it has such keys; unchecked, since they may be of another version."""
    update: dict[str, Any] = {}
    for key in type(section).model_fields.keys() & content.keys():
        present, value = getattr(section, key), content[key]
        nested = isinstance(present, Section) and isinstance(value, Mapping)
        update[key] = _updated(present, value) if nested else value
    return section.model_copy(update=update)


def _devices(config: JsonObject, result: JsonObject) -> dict[str, Devices]:
    """The GPUs by role that a stage recorded; those of the configuration for a run from before they were recorded."""
    if RECORD not in result:
        return _planned(config)
    return {name: Devices(**role) for name, role in result[RECORD].items()}


@dataclass(frozen=True)
class _Window:
    """The time from the start of a training to that of the next one.

    Attributes:
        start: in Unix time.
        end: in Unix time.
        used: GPUs by role: of the training that starts it, and of the rollout before the next one.
        actors: the number of actors by role: of a pool as many as worked, within its limits.
        busy: seconds in which they worked by role, summed over actors.
    """

    start: float
    end: float
    used: Mapping[str, Devices]
    actors: Mapping[str, int]
    busy: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start

    def gpu_seconds(self, name: str) -> tuple[float, float]:
        """GPU seconds of a role: those in which it worked, and all."""
        if name not in self.used:
            return 0.0, 0.0
        gpus = self.used[name].gpus
        return self.busy[name] * gpus, self.actors[name] * gpus * self.seconds


def idle(config: JsonObject, results: Results) -> dict[str, Any]:
    """Share of the GPUs' time in which they were idle, from the start of the first training to that of the last one.

    Between these are whole rounds, with all that each of them waits for. A pause between two sessions of a run counts as
    idle time.

    Returns:
        `gpus` that the run had at the same time (the mean, if it resumed with others), `seconds` of that time, `idle` (share of
        all GPUs) and `idle_by_role`; {} without GPUs, with fewer than two trainings, or if engines come and go: the spans say
        when they worked, not when they were there.
    """
    trained = [number for number, result in sorted(results.items()) if "began" in result.get("train", {})]
    windows = [_window(config, results, first, second) for first, second in pairwise(trained)]
    names = list(dict.fromkeys(name for window in windows for name in window.used))
    if not names or any(_is_elastic(window.used) for window in windows):
        return {}
    seconds = sum(window.seconds for window in windows)
    available = sum(resource_plan.at_once(window.used, window.actors) * window.seconds for window in windows)
    by_role = {
        name: [sum(part) for part in zip(*(w.gpu_seconds(name) for w in windows), strict=True)] for name in names
    }
    busy = sum(worked for worked, _ in by_role.values())
    return {
        "gpus": round(available / seconds, 2),
        "seconds": round(seconds, 1),
        "idle": round(max(0.0, 1 - busy / available), 4),
        "idle_by_role": {name: round(1 - worked / present, 4) for name, (worked, present) in by_role.items()},
    }


def _window(config: JsonObject, results: Results, first: int, second: int) -> _Window:
    """The time from the start of one round's training to that of another's."""
    training, rollout = results[first]["train"], results[second].get("select", {})
    start, end = training["began"], results[second]["train"]["began"]
    used = {name: role for name, role in _devices(config, rollout).items() if name != TRAIN}
    used |= {name: role for name, role in _devices(config, training).items() if name == TRAIN}
    actors, busy = {}, {}
    for name, role in used.items():
        if name == TRAIN:
            actors[name], busy[name] = role.actors, role.actors * min(_step_seconds(training), end - start)
        else:
            lanes = _lanes_within(name, results, start, end)
            actors[name] = min(max(role.actors, len(lanes)), role.most)
            if name == JUDGE:
                _add_evaluations(lanes, actors[name], results)
            worked = sum(_length(spans, start, end) for spans in lanes.values())
            busy[name] = min(worked, actors[name] * (end - start))
    return _Window(start, end, used, actors, busy)


def _lanes_within(name: str, results: Results, start: float, end: float) -> dict[str, list[tuple[float, float]]]:
    """Busy spans by actor of a role, of those actors that worked between two times."""
    lanes: dict[str, list[tuple[float, float]]] = {}
    for result in results.values():
        for lane, spans in _lanes(result, name):
            if _length(spans, start, end):
                lanes.setdefault(lane, []).extend(spans)
    return lanes


def _add_evaluations(lanes: dict[str, list[tuple[float, float]]], critics: int, results: Results) -> None:
    """Add the evaluations, which keep all critics busy, to their lanes."""
    for result in results.values():
        if "began" in (found := result.get("evaluate", {})):
            for number in range(critics):
                lanes.setdefault(f"critic-{number}", []).append((found["began"], found["ended"]))


def _step_seconds(training: JsonObject) -> float:
    """Seconds of a training's steps; its whole duration if the steps left no records."""
    return float(training.get("steps", {}).get("seconds") or training["seconds"])


def _length(spans: Spans, start: float, end: float) -> float:
    """Seconds between two times that spans cover; they may overlap."""
    covered, at = 0.0, start
    for first, last in sorted(spans):
        covered += max(0.0, min(last, end) - max(first, at))
        at = max(at, min(last, end))
    return covered


def advice(config: JsonObject, results: Results) -> dict[str, Any]:
    """How the GPUs that generate, judge and train would be divided best, by what each did in the first training round.

    The work of a role, in GPU seconds, is taken to be the same on any number of GPUs.

    Returns:
        `round`, `gpus` by role as they are and `advised`, and the `seconds` of a round for both, and with overlap for the
        advised ones; {} if the run has no training with GPUs or not all of these roles, or if its engines come and go.
    """
    used = {name: role for name, role in _planned(config).items() if name in ROLES}
    number = min((n for n, r in results.items() if "began" in r.get("train", {}) and "select" in r), default=0)
    if len(used) < len(ROLES) or not number or config["cluster"].get("placement") == "phased" or _is_elastic(used):
        return {}
    first = results[number]
    had = {TRAIN: _devices(config, first["train"]).get(TRAIN)}
    had |= {name: _devices(config, first["select"]).get(name) for name in (GENERATE, JUDGE)}
    gpus_then = {name: role for name, role in had.items() if role}
    if len(gpus_then) < len(ROLES) or _is_elastic(gpus_then):
        return {}
    work = {
        name: role.gpus * sum(_length(spans, 0, float("inf")) for _, spans in _lanes(first, name))
        for name, role in gpus_then.items()
        if name != TRAIN
    }
    work[TRAIN] = _total(gpus_then[TRAIN]) * _step_seconds(first["train"])
    evaluated = _total(gpus_then[JUDGE]) * float(first.get("evaluate", {}).get("seconds", 0.0))
    base, overlap = _needs_base_only(config), config["cluster"].get("overlap", 0)

    def seconds(gpus: Mapping[str, float], overlapped: bool) -> float:
        generate, judge, train = (work[name] / gpus[name] for name in ROLES)
        evaluate = evaluated / gpus[JUDGE]
        if not overlapped:
            return max(generate, judge) + train + evaluate
        return max(generate, judge, train) + evaluate if base else max(generate, train + evaluate) + judge

    now = {name: _total(role) for name, role in used.items()}
    best = min(_divisions(used), key=lambda gpus: (round(seconds(gpus, bool(overlap)), 3), _moved(gpus, now)))
    return {
        "round": number,
        "gpus": now,
        "advised": best,
        "seconds": round(seconds(now, bool(overlap)), 1),
        "advised_seconds": round(seconds(best, bool(overlap)), 1),
        "overlapped_seconds": round(min(seconds(gpus, True) for gpus in _divisions(used)), 1),
    }


def _total(role: Devices) -> float:
    """GPUs of all actors of a role."""
    return role.actors * role.gpus


def _is_elastic(used: Mapping[str, Devices]) -> bool:
    """Whether the number of engines follows the work."""
    return any(used[name].most > used[name].actors for name in (GENERATE, JUDGE) if name in used)


def _needs_base_only(config: JsonObject) -> bool:
    """Whether critiques need no version but the untrained model, so that they do not wait for a training."""
    selection = config.get("selection", {})
    asks_unaided = selection.get("mastered", 1) < 1 or selection.get("own", False)
    return bool(config["critic"].get("writer") == "base" and not asks_unaided)


def _lanes(result: Mapping[str, JsonObject], name: str) -> Iterator[tuple[str, Spans]]:
    """Busy spans of the actors of a role in a round, by actor."""
    for lane, spans in result.get("select", {}).get("spans", {}).items():
        if resource_plan.device_name(lane) == name:
            yield lane, [(first, last) for first, last in spans]


def _divisions(used: Mapping[str, Devices]) -> Iterator[dict[str, float]]:
    """All divisions of the roles' GPUs among them, in steps of what an actor of each needs."""
    total, sizes = sum(map(_total, used.values())), [used[name].gpus for name in ROLES]
    for generators in range(1, _fit(total, sizes[0]) + 1):
        for critics in range(1, _fit(total - generators * sizes[0], sizes[1]) + 1):
            workers = _fit(total - generators * sizes[0] - critics * sizes[1], sizes[2])
            if workers >= 1:
                yield dict(zip(ROLES, (generators * sizes[0], critics * sizes[1], workers * sizes[2]), strict=True))


def _fit(gpus: float, size: float) -> int:
    """How many actors of `size` fit on so many GPUs; of fractions, such as 1 - 0.3 - 0.3, small errors are forgiven."""
    return int(gpus / size + 1e-6)


def _moved(gpus: Mapping[str, float], now: Mapping[str, float]) -> float:
    return sum(abs(gpus[name] - now[name]) for name in ROLES)


def advice_text(found: JsonObject) -> str:
    """The result of `advice` as one line; "" for {}."""
    if not found:
        return ""
    now, best = (", ".join(f"{name} {found[key][name]:g}" for name in ROLES) for key in ("gpus", "advised"))
    text = f"balance of the GPUs, by the rates of round {found['round']}: {now} takes {found['seconds']:.0f} s a round"
    if found["advised"] != found["gpus"]:
        text += f"; {best} would take about {found['advised_seconds']:.0f} s"
    if found["overlapped_seconds"] < found["advised_seconds"]:
        text += f"; with cluster.overlap=1 it could be about {found['overlapped_seconds']:.0f} s"
    return text
