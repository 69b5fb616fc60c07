"""The resource plan of a run: what it needs at the same time, compared with what the cluster has."""

from collections.abc import Mapping
from dataclasses import dataclass

from vlrm_ray.config import Config
from vlrm_ray.config_resources import Engine
from vlrm_ray.errors import UserError

ENGINE_ROLES = ("policy generator", "critique writer", "claim extractor")
BYTES_PER_TOKEN = 5
"""Bytes of text of a token, in most languages at most."""
BYTES_PER_CANDIDATE = 1200
"""Bytes of a candidate besides its text: ids, claims and verdicts; see `jobs/bench.py stream`."""


@dataclass(frozen=True)
class ResourceRequest:
    """Resources of one role.

    Attributes:
        role: what the actors or tasks do.
        count: how many there are.
        cpus: logical CPUs of each.
        gpus: GPUs of each.
    """

    role: str
    count: int
    cpus: float
    gpus: float


def uses_extractor_actor(config: Config) -> bool:
    """Whether the LLM claim extractor has an engine of its own: not if the policy generator extracts the claims."""
    experts = config.experts
    return experts.extractor == "llm" and (bool(experts.extractor_model) or not config.policy.samples)


def resource_requests(config: Config) -> list[ResourceRequest]:
    """The resources of everything that a run starts, with pools at their minimum size."""
    detector, reader = config.experts.detector.pool, config.experts.reader.pool
    engines: list[tuple[str, Engine]] = [("policy generator", config.policy.engine)] if config.policy.samples else []
    engines.append(("critique writer", config.critic.engine))
    requests = [ResourceRequest(name, e.actors, e.cpus, e.gpus * e.tensor_parallel) for name, e in engines]
    if uses_extractor_actor(config):
        engine = config.policy.engine
        requests.append(ResourceRequest("claim extractor", 1, engine.cpus, engine.gpus * engine.tensor_parallel))
    requests.append(ResourceRequest("detector expert", detector.min, detector.cpus, detector.gpus))
    if config.experts.reader.enabled:
        requests.append(ResourceRequest("text expert", reader.min, reader.cpus, reader.gpus))
    stages = config.cluster.stages
    pools = [(f"{name} stage", pool) for name, pool in stages]
    if config.pairing.labels == "self":
        pools.append(("self-label stage", stages.critique))
    requests += [ResourceRequest(name, pool.min, pool.cpus, pool.gpus) for name, pool in pools]
    requests.append(ResourceRequest("train worker", config.train.workers, config.train.cpus, config.train.gpus))
    return requests


def peak(config: Config) -> tuple[float, float]:
    """CPUs and GPUs that a run needs at the same time.

    This is the larger of two phases: engines with experts and data stages, and train workers. With the placement
    `disaggregated` the engines keep their resources while training.
    """
    total = {r.role: (r.count * r.cpus, r.count * r.gpus) for r in resource_requests(config)}
    training = [total.pop("train worker")]
    gathering = list(total.values())
    if config.cluster.placement == "disaggregated":
        training += [total[role] for role in ENGINE_ROLES if role in total]
    cpus, gpus = (max(sum(role[i] for role in phase) for phase in (gathering, training)) for i in (0, 1))
    return round(cpus, 3), round(gpus, 3)


def check(config: Config, available: Mapping[str, float], where: str) -> None:
    """Check that a cluster is large enough for the run.

    Args:
        config: configuration of the run.
        available: resources of the cluster, with the keys CPU and GPU.
        where: what the cluster is called in the error message.

    Raises:
        UserError: if the run needs more at the same time than the cluster has.
    """
    cpus, gpus = peak(config)
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        present = available.get(name, 0.0)
        if needed > present + 1e-9:
            raise UserError(
                f"the run needs {needed:g} {name} at the same time but {where} has {present:g}; "
                f"lower the number of actors or workers or their {name.lower()}s (see --dry-run), or enlarge the cluster"
            )


def of_this_machine(config: Config) -> dict[str, float]:
    """Resources of a cluster that the run starts on this machine: the configured CPUs, and the GPUs that PyTorch finds."""
    if peak(config)[1] == 0:
        return {"CPU": config.cluster.cpus}
    import torch

    return {"CPU": config.cluster.cpus, "GPU": torch.cuda.device_count()}


def estimated_size(config: Config) -> str:
    """What a round sends between stages and stores, at most: every response and critique as long as it may be.

    Images, models, checkpoints and the responses that prompts bring are not counted.
    """
    policy, critic = config.policy, config.critic
    candidates = policy.samples and policy.samples + policy.image_free + policy.image_degraded
    per_prompt = candidates * (policy.max_tokens * BYTES_PER_TOKEN + BYTES_PER_CANDIDATE)
    per_prompt += config.pairing.per_prompt * 2 * critic.k * critic.max_tokens * BYTES_PER_TOKEN
    wire = config.prompts.per_round * per_prompt / 1e6
    return (
        f"at most per round of {config.prompts.per_round} prompts: {wire:,.0f} MB between the stages, "
        f"{2 * wire:,.0f} MB in the run's folder before compression"
    )


def table(config: Config) -> list[list[str]]:
    """The plan as rows of text: role, count, CPUs each, GPUs each."""
    return [[r.role, str(r.count), f"{r.cpus:g}", f"{r.gpus:g}"] for r in resource_requests(config)]
