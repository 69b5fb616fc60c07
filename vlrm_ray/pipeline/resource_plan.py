"""The resource plan of a run: what it needs at the same time, compared with what the cluster has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from vlrm_ray.config import Config
from vlrm_ray.config_sections import Engine, Pool, Role
from vlrm_ray.errors import UserError

ENGINE_ROLES = ("policy generator", "critique writer", "claim extractor")
TRAIN = "train worker"
GPU_KEYS = {
    "policy generator": "policy.engine.gpus or policy.engine.tensor_parallel",
    "critique writer": "critic.engine.gpus or critic.engine.tensor_parallel",
    "claim extractor": "policy.engine.gpus or policy.engine.tensor_parallel",
}
"""The keys that determine how many GPUs an actor has."""
DEVICE_NAMES = {
    "policy generator": "generate", "critique writer": "judge", "claim extractor": "extract", "detector expert": "detect",
    "text expert": "read", TRAIN: "train",
}  # fmt: skip
"""Names of the roles in `devices`; a data stage has that of its role."""
ACTORS_OF = {
    "policy": "generate",
    "critic": "judge",
    "extractor": "extract",
    "detect": "detect",
    "read": "read",
    "train": "train",
}
"""The same names by the first part of the names under which actors report their work."""
PHASES = ("rollout", "training")
COLUMNS = ["role", "count", "CPU each", "GPU each", "nodes"]
"""Columns of `table`."""
BYTES_PER_TOKEN = 5
"""Bytes of text of a token, in most languages at most."""
BYTES_PER_CANDIDATE = 1200
"""Bytes of a candidate besides its text: ids, claims and verdicts; see `jobs/bench.py stream`."""


@dataclass(frozen=True)
class ResourceRequest:
    """Resources of one role.

    Attributes:
        role: what the actors or tasks do.
        count: how many there are, at least.
        cpus: logical CPUs of each.
        gpus: GPUs of each, on one node.
        placed_as: the role whose label selector says on which nodes they may be.
        most: how many there may be, `count` or more.
        limit: the configuration key that says so; "" if it is always `count`.
    """

    role: str
    count: int
    cpus: float
    gpus: float
    placed_as: Role
    most: int
    limit: str = ""


@dataclass(frozen=True)
class Devices:
    """GPUs of one role of a run.

    Attributes:
        actors: least number of its actors, or of train workers.
        most: largest number of them.
        gpus: GPUs of each.
        phases: in which of `PHASES` it has them.
    """

    actors: int
    most: int
    gpus: float
    phases: Sequence[str]


def uses_extractor_actor(config: Config) -> bool:
    """Whether the LLM claim extractor has an engine of its own: not if the policy generator extracts the claims."""
    experts = config.experts
    return experts.extractor == "llm" and (bool(experts.extractor_model) or not config.policy.samples)


def resource_requests(config: Config) -> list[ResourceRequest]:
    """The resources of everything that a run starts."""
    policy, train = config.policy.engine, config.train
    requests = [_of_engine("policy generator", policy, "generate", "policy")] if config.policy.samples else []
    requests.append(_of_engine("critique writer", config.critic.engine, "judge", "critic"))
    if uses_extractor_actor(config):
        gpus = policy.gpus * policy.tensor_parallel
        requests.append(ResourceRequest("claim extractor", 1, policy.cpus, gpus, "generate", 1))
    detector, reader = config.experts.detector.pool, config.experts.reader.pool
    requests.append(_of_pool("detector expert", detector, "expert", "experts.detector.pool", detector.gpus))
    if config.experts.reader.enabled:
        requests.append(_of_pool("text expert", reader, "expert", "experts.reader.pool", reader.gpus))
    pools = [(name, name, pool) for name, pool in config.cluster.stages]
    if config.pairing.labels == "self":
        pools.append(("self-label", "critique", config.cluster.stages.critique))
    requests += [_of_pool(f"{name} stage", pool, "cpu", f"cluster.stages.{key}") for name, key, pool in pools]
    requests.append(ResourceRequest(TRAIN, train.workers, train.cpus, train.gpus, "train", train.workers))
    return requests


def _of_engine(name: str, engine: Engine, role: Role, section: str) -> ResourceRequest:
    gpus, limit = engine.gpus * engine.tensor_parallel, f"{section}.engine.max_actors"
    return ResourceRequest(name, engine.actors, engine.cpus, gpus, role, engine.most_actors, limit)


def _of_pool(name: str, pool: Pool, role: Role, key: str, gpus: float = 0) -> ResourceRequest:
    return ResourceRequest(name, pool.min, pool.cpus, gpus, role, pool.max, f"{key}.max")


def phases(config: Config) -> dict[str, list[ResourceRequest]]:
    """What a run needs at the same time in each of its two phases.

    These are engines with experts and data stages, and train workers. With the placement `disaggregated` the engines keep
    their resources while training; with `overlap` both phases run at the same time.
    """
    requests = resource_requests(config)
    if config.cluster.overlap:
        return {" and ".join(PHASES): requests}
    return {phase: [r for r in requests if phase in _phases_of(r.role, config)] for phase in PHASES}


def _phases_of(role: str, config: Config) -> tuple[str, ...]:
    """The phases in which a role has its resources."""
    if config.cluster.overlap or (role in ENGINE_ROLES and config.cluster.placement == "disaggregated"):
        return PHASES
    return PHASES[1:] if role == TRAIN else PHASES[:1]


def devices(config: Config) -> dict[str, Devices]:
    """The GPUs of a run by role: `generate`, `judge`, `extract`, `detect`, `read`, `train`, and data stages.

    Roles without GPUs are there too. The plan, the metrics and the report all count GPUs by this function and `at_once`.
    """
    return {
        DEVICE_NAMES.get(r.role, r.role): Devices(r.count, r.most, r.gpus, _phases_of(r.role, config))
        for r in resource_requests(config)
    }


def device_name(actor: str) -> str:
    """The name in `devices` of an actor that reports its work as `actor`, such as `judge` for critic-0."""
    first = actor.rpartition("-")[0] or actor
    return ACTORS_OF.get(first, f"{first} stage")


def at_once(by_role: Mapping[str, Devices], actors: Mapping[str, int]) -> float:
    """GPUs that so many actors of the roles have at the same time: those of the larger phase."""
    parts = {phase for role in by_role.values() for phase in role.phases}
    counts = (sum(actors[n] * role.gpus for n, role in by_role.items() if part in role.phases) for part in parts)
    return max(counts, default=0.0)


def peak(config: Config) -> tuple[float, float]:
    """CPUs and GPUs that a run needs at the same time, with pools and engines at their least number: those of the larger phase."""
    by_role = devices(config)
    gpus = at_once(by_role, {name: role.actors for name, role in by_role.items()})
    return _cpus(config, attrgetter("count")), round(gpus, 3)


def largest(config: Config) -> tuple[float, float]:
    """CPUs and GPUs that a run takes at the same time at most, with pools and engines at their largest number."""
    by_role = devices(config)
    gpus = at_once(by_role, {name: role.most for name, role in by_role.items()})
    return _cpus(config, attrgetter("most")), round(gpus, 3)


def _cpus(config: Config, number: Callable[[ResourceRequest], int]) -> float:
    """CPUs of the larger phase, with so many actors of each role."""
    return round(max(sum(number(request) * request.cpus for request in phase) for phase in phases(config).values()), 3)


def check(config: Config, available: Mapping[str, float], where: str) -> None:
    """Check that a cluster is large enough for the run.

    Args:
        config: configuration of the run.
        available: resources of the cluster, with the keys CPU and GPU.
        where: what the cluster is called in the error message.

    Raises:
        UserError: if the run needs more at the same time than the cluster has, a number of GPUs that Ray does not know, or a
            part of a GPU where a whole one is needed.
    """
    for request in resource_requests(config):
        if request.gpus > 1 and request.gpus % 1:
            key = GPU_KEYS.get(request.role, "its gpus")
            raise UserError(
                f"each {request.role} asks for {request.gpus:g} GPU; above 1, Ray gives whole numbers only: change {key}"
            )
    _check_shared_gpus(config)
    cpus, gpus = peak(config)
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        present = available.get(name, 0.0)
        if needed > present + 1e-9:
            raise UserError(
                f"the run needs {needed:g} {name} at the same time but {where} has {present:g}; "
                f"lower the number of actors or workers or their {name.lower()}s (see --dry-run), or enlarge the cluster"
            )


def _check_shared_gpus(config: Config) -> None:
    """Raises UserError if processes that communicate by NCCL would be on the same GPU."""
    if config.train.workers > 1 and 0 < config.train.gpus <= 0.5:
        raise UserError(
            f"train.workers={config.train.workers} with train.gpus={config.train.gpus:g} each would share a GPU, which NCCL "
            "refuses: set train.workers=1, or train.gpus=1"
        )
    for section, engine in (("policy", config.policy.engine), ("critic", config.critic.engine)):
        if engine.tensor_parallel > 1 and engine.gpus % 1:
            raise UserError(
                f"{section}.engine.tensor_parallel={engine.tensor_parallel} needs whole GPUs, and {section}.engine.gpus is "
                f"{engine.gpus:g}: set {section}.engine.gpus=1"
            )


def of_this_machine(config: Config) -> dict[str, float]:
    """Resources of a cluster that the run starts on this machine: the configured CPUs, and the GPUs that PyTorch finds."""
    if peak(config)[1] == 0:
        return {"CPU": config.cluster.cpus}
    import torch

    return {"CPU": config.cluster.cpus, "GPU": torch.cuda.device_count()}


def wire_bytes(config: Config) -> float:
    """Bytes that the largest round sends between stages at most: every response and critique as long as it may be."""
    policy, critic = config.policy, config.critic
    candidates = policy.samples and policy.samples + policy.image_free + policy.image_degraded
    per_prompt = candidates * (policy.max_tokens * BYTES_PER_TOKEN + BYTES_PER_CANDIDATE)
    per_prompt += config.pairing.per_prompt * 2 * critic.k * critic.max_tokens * BYTES_PER_TOKEN
    return float(config.most_prompts * per_prompt)


def estimated_size(config: Config) -> str:
    """What a round sends between stages (`wire_bytes`) and stores, for the user.

    Images, models, checkpoints and the responses that prompts bring are not counted; of recolored images, the number is given.
    """
    prompts = config.most_prompts
    wire, copies = wire_bytes(config) / 1e6, round(config.prompts.recolor * prompts)
    return (
        f"at most per round of {prompts} prompts: {wire:,.0f} MB between the stages, "
        f"{2 * wire:,.0f} MB in the run's folder before compression"
        + (f"; and about {copies:,} recolored copies of images in its cache" if copies else "")
    )


def table(config: Config) -> list[list[str]]:
    """The plan as rows of text: role, count, CPUs each, GPUs each, and the label selector of its nodes."""
    nodes_of = config.cluster.nodes_of
    return [
        [r.role, _numbers(r), f"{r.cpus:g}", f"{r.gpus:g}", nodes_of(r.placed_as) or "any"]
        for r in resource_requests(config)
    ]


def _numbers(request: ResourceRequest) -> str:
    return f"{request.count} to {request.most}" if request.most > request.count else str(request.count)
