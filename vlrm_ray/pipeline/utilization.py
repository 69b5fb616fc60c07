"""How busy a run's GPUs were, and how they would be divided best among generating, judging and training.

An engine is busy while it has requests, a trainer during its steps, an expert while it looks at images. An evaluation keeps
the critics busy. Configurations and results are JSON, so that this works for a run of another version of the package.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JsonObject = Mapping[str, Any]
Results = Mapping[int, Mapping[str, JsonObject]]
"""Results of the finished stages, by round."""
Spans = Sequence[tuple[float, float]]
GENERATE, JUDGE, TRAIN = ROLES = ("generate", "judge", "train")
"""The roles among which the advice divides the GPUs."""


@dataclass(frozen=True)
class Role:
    """GPUs of one role.

    Attributes:
        lane: beginning of the names under which its actors report when they work; "" for training.
        actors: number of its actors.
        gpus: GPUs of each actor.
    """

    lane: str
    actors: int
    gpus: float

    @property
    def total(self) -> float:
        """GPUs of all actors."""
        return self.actors * self.gpus


def roles(config: JsonObject) -> dict[str, Role]:
    """The roles of a run that use GPUs, by name."""
    policy, critic, experts = config["policy"], config["critic"]["engine"], config["experts"]
    found = {
        GENERATE: _engine("policy-", policy["engine"]) if policy["samples"] else None,
        JUDGE: _engine("critic-", critic),
        "detect": _pool("detect-", experts["detector"].get("pool", {})),
        "read": _pool("read-", experts["reader"].get("pool", {})) if experts["reader"].get("enabled", True) else None,
        TRAIN: Role("", config["train"]["workers"], config["train"].get("gpus", 0)),
    }
    return {name: role for name, role in found.items() if role and role.total}


def _engine(lane: str, engine: JsonObject) -> Role:
    return Role(lane, engine["actors"], engine.get("gpus", 0) * engine.get("tensor_parallel", 1))


def _pool(lane: str, pool: JsonObject) -> Role:
    return Role(lane, pool.get("max", 1), pool.get("gpus", 0))


def idle(config: JsonObject, results: Results) -> dict[str, Any]:
    """Share of the GPUs' time in which they were idle, from the start of the first training to that of the last one.

    Between these are whole rounds, with all that each of them waits for. A pause between two sessions of a run counts as
    idle time.

    Returns:
        `gpus`, `seconds` of that time, `idle` (share of all GPUs) and `idle_by_role`; {} without GPUs, with fewer than two
        trainings, or if engines come and go: the spans say when they worked, not when they were there.
    """
    used = {} if _is_elastic(config) else roles(config)
    starts = [result["train"]["began"] for result in results.values() if "began" in result.get("train", {})]
    if not used or len(starts) < 2:
        return {}
    start, end = min(starts), max(starts)
    busy = {name: _busy(name, role, results, start, end) for name, role in used.items()}
    shares = {name: max(0.0, 1 - busy[name] / (role.actors * (end - start))) for name, role in used.items()}
    gpus = sum(role.total for role in used.values())
    return {
        "gpus": gpus,
        "seconds": round(end - start, 1),
        "idle": round(sum(shares[name] * role.total for name, role in used.items()) / gpus, 4),
        "idle_by_role": {name: round(share, 4) for name, share in shares.items()},
    }


def _busy(name: str, role: Role, results: Results, start: float, end: float) -> float:
    """Busy seconds of a role between two times, summed over its actors."""
    if name == TRAIN:
        trainings = [result["train"] for result in results.values() if "began" in result.get("train", {})]
        return role.actors * sum(_step_seconds(training) for training in trainings if start <= training["began"] < end)
    lanes: dict[str, list[tuple[float, float]]] = {f"{role.lane}{i}": [] for i in range(role.actors)}
    for result in results.values():
        for lane, spans in result.get("select", {}).get("spans", {}).items():
            if lane in lanes:
                lanes[lane] += [(first, last) for first, last in spans]
        if name == JUDGE and "began" in result.get("evaluate", {}):
            for spans in lanes.values():
                spans.append((result["evaluate"]["began"], result["evaluate"]["ended"]))
    return sum(_length(spans, start, end) for spans in lanes.values())


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
    used = {name: role for name, role in roles(config).items() if name in ROLES}
    number = min((n for n, r in results.items() if "began" in r.get("train", {}) and "select" in r), default=0)
    if len(used) < len(ROLES) or not number or config["cluster"].get("placement") == "phased" or _is_elastic(config):
        return {}
    first = results[number]
    work = {
        name: role.gpus * sum(_length(spans, 0, float("inf")) for lane, spans in _lanes(first, role))
        for name, role in used.items()
        if name != TRAIN
    }
    work[TRAIN] = used[TRAIN].total * _step_seconds(first["train"])
    evaluated = used[JUDGE].total * float(first.get("evaluate", {}).get("seconds", 0.0))
    base, overlap = _needs_base_only(config), config["cluster"].get("overlap", 0)

    def seconds(gpus: Mapping[str, float], overlapped: bool) -> float:
        generate, judge, train = (work[name] / gpus[name] for name in ROLES)
        evaluate = evaluated / gpus[JUDGE]
        if not overlapped:
            return max(generate, judge) + train + evaluate
        return max(generate, judge, train) + evaluate if base else max(generate, train + evaluate) + judge

    now = {name: role.total for name, role in used.items()}
    best = min(_divisions(used), key=lambda gpus: (round(seconds(gpus, bool(overlap)), 3), _moved(gpus, now)))
    return {
        "round": number,
        "gpus": now,
        "advised": best,
        "seconds": round(seconds(now, bool(overlap)), 1),
        "advised_seconds": round(seconds(best, bool(overlap)), 1),
        "overlapped_seconds": round(min(seconds(gpus, True) for gpus in _divisions(used)), 1),
    }


def _is_elastic(config: JsonObject) -> bool:
    """Whether the number of engines follows the work."""
    engines = (config["policy"]["engine"], config["critic"]["engine"])
    return any(engine.get("max_actors", 0) > engine["actors"] for engine in engines)


def _needs_base_only(config: JsonObject) -> bool:
    """Whether critiques need no version but the untrained model, so that they do not wait for a training."""
    selection = config.get("selection", {})
    asks_unaided = selection.get("mastered", 1) < 1 or selection.get("own", False)
    return bool(config["critic"].get("writer") == "base" and not asks_unaided)


def _lanes(result: Mapping[str, JsonObject], role: Role) -> Iterator[tuple[str, Spans]]:
    """Busy spans of the actors of a role in a round."""
    for lane, spans in result["select"].get("spans", {}).items():
        if lane.startswith(role.lane):
            yield lane, [(first, last) for first, last in spans]


def _divisions(used: Mapping[str, Role]) -> Iterator[dict[str, float]]:
    """All divisions of the roles' GPUs among them, in steps of what an actor of each needs."""
    total, sizes = sum(role.total for role in used.values()), [used[name].gpus for name in ROLES]
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
