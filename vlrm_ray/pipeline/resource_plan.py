"""What a run asks of the cluster, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError

STAGE_CPUS = 0.1
"""Logical CPUs of a stage that mostly waits for an engine."""
STAGES_AT_ONCE = 4
"""Tasks of the Ray Data graph that run at the same time, at least."""


@dataclass(frozen=True)
class Need:
    """Resources of one kind of worker."""

    what: str
    count: int
    cpus: float
    gpus: float


def needs(config: Config) -> list[Need]:
    """Everything a run starts, pools at their minimum."""
    detector, reader = config.experts.detector.pool, config.experts.reader.pool
    engines = [("policy generator", config.policy.engine), ("critique writer", config.critic.engine)]
    wanted = [Need(name, e.actors, e.cpus, e.gpus * e.tensor_parallel) for name, e in engines]
    if config.experts.extractor == "llm":
        engine = config.policy.engine
        wanted.append(Need("claim extractor", 1, engine.cpus, engine.gpus * engine.tensor_parallel))
    wanted.append(Need("detector expert", detector.min, detector.cpus, detector.gpus))
    if config.experts.reader.enabled:
        wanted.append(Need("text expert", reader.min, reader.cpus, reader.gpus))
    wanted.append(Need("data stage", STAGES_AT_ONCE, STAGE_CPUS, 0))
    wanted.append(Need("train worker", config.train.workers, config.train.cpus, config.train.gpus))
    return wanted


def peak(config: Config) -> tuple[float, float]:
    """CPUs and GPUs needed at the same time: engines with the experts, or with the trainers."""
    found = {n.what: (n.count * n.cpus, n.count * n.gpus) for n in needs(config)}
    engines = [found["policy generator"], found["critique writer"], found.get("claim extractor", (0, 0))]
    phased = config.cluster.placement == "phased"
    gathering = [*engines, found["detector expert"], found.get("text expert", (0, 0)), found["data stage"]]
    training = [found["train worker"], *([] if phased else engines)]
    cpus, gpus = (max(sum(part[i] for part in phase) for phase in (gathering, training)) for i in (0, 1))
    return round(cpus, 3), round(gpus, 3)


def check(config: Config, available: Mapping[str, float], where: str) -> None:
    """Raise UserError if the cluster can never hold the run."""
    cpus, gpus = peak(config)
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        have = available.get(name, 0.0)
        if wanted > have + 1e-9:
            raise UserError(
                f"the run needs {wanted:g} {name} at the same time and {where} has {have:g}; "
                f"lower actors, workers or their {name.lower()}s (see --dry-run), or give the cluster more"
            )


def table(config: Config) -> list[list[str]]:
    """Rows for people: what, how many, CPUs and GPUs each."""
    return [[n.what, str(n.count), f"{n.cpus:g}", f"{n.gpus:g}"] for n in needs(config)]
