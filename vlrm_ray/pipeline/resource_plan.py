"""The resource plan of a run: what it needs at the same time, compared with what the cluster has."""

from collections.abc import Mapping
from dataclasses import dataclass

from vlrm_ray.config import Config
from vlrm_ray.config_sections import Engine, Role
from vlrm_ray.errors import UserError

ENGINE_ROLES = ("policy generator", "critique writer", "claim extractor")
TRAIN = "train worker"
GPU_KEYS = {
    "policy generator": "policy.engine.gpus or policy.engine.tensor_parallel",
    "critique writer": "critic.engine.gpus or critic.engine.tensor_parallel",
    "claim extractor": "policy.engine.gpus or policy.engine.tensor_parallel",
}
"""The keys that determine how many GPUs an actor has."""
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
        count: how many there are.
        cpus: logical CPUs of each.
        gpus: GPUs of each, on one node.
        placed_as: the role whose label selector says on which nodes they may be.
    """

    role: str
    count: int
    cpus: float
    gpus: float
    placed_as: Role


def uses_extractor_actor(config: Config) -> bool:
    """Whether the LLM claim extractor has an engine of its own: not if the policy generator extracts the claims."""
    experts = config.experts
    return experts.extractor == "llm" and (bool(experts.extractor_model) or not config.policy.samples)


def resource_requests(config: Config) -> list[ResourceRequest]:
    """The resources of everything that a run starts, with pools at their minimum size."""
    detector, reader = config.experts.detector.pool, config.experts.reader.pool
    engines: list[tuple[str, Engine, Role]] = (
        [("policy generator", config.policy.engine, "generate")] if config.policy.samples else []
    )
    engines.append(("critique writer", config.critic.engine, "judge"))
    requests = [ResourceRequest(name, e.actors, e.cpus, e.gpus * e.tensor_parallel, role) for name, e, role in engines]
    if uses_extractor_actor(config):
        engine = config.policy.engine
        gpus = engine.gpus * engine.tensor_parallel
        requests.append(ResourceRequest("claim extractor", 1, engine.cpus, gpus, "generate"))
    requests.append(ResourceRequest("detector expert", detector.min, detector.cpus, detector.gpus, "expert"))
    if config.experts.reader.enabled:
        requests.append(ResourceRequest("text expert", reader.min, reader.cpus, reader.gpus, "expert"))
    stages = config.cluster.stages
    pools = [(f"{name} stage", pool) for name, pool in stages]
    if config.pairing.labels == "self":
        pools.append(("self-label stage", stages.critique))
    requests += [ResourceRequest(name, pool.min, pool.cpus, pool.gpus, "cpu") for name, pool in pools]
    train = config.train
    requests.append(ResourceRequest(TRAIN, train.workers, train.cpus, train.gpus, "train"))
    return requests


def phases(config: Config) -> dict[str, list[ResourceRequest]]:
    """What a run needs at the same time in each of its two phases.

    These are engines with experts and data stages, and train workers. With the placement `disaggregated` the engines keep
    their resources while training; with `overlap` both phases run at the same time.
    """
    requests = resource_requests(config)
    if config.cluster.overlap:
        return {"rollout and training": requests}
    kept = ENGINE_ROLES if config.cluster.placement == "disaggregated" else ()
    return {
        "rollout": [request for request in requests if request.role != TRAIN],
        "training": [request for request in requests if request.role == TRAIN or request.role in kept],
    }


def peak(config: Config) -> tuple[float, float]:
    """CPUs and GPUs that a run needs at the same time: those of the larger of its `phases`."""
    needed = phases(config).values()
    cpus = max(sum(request.count * request.cpus for request in phase) for phase in needed)
    gpus = max(sum(request.count * request.gpus for request in phase) for phase in needed)
    return round(cpus, 3), round(gpus, 3)


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
    """Bytes that a round sends between stages at most: every response and critique as long as it may be."""
    policy, critic = config.policy, config.critic
    candidates = policy.samples and policy.samples + policy.image_free + policy.image_degraded
    per_prompt = candidates * (policy.max_tokens * BYTES_PER_TOKEN + BYTES_PER_CANDIDATE)
    per_prompt += config.pairing.per_prompt * 2 * critic.k * critic.max_tokens * BYTES_PER_TOKEN
    return float(config.prompts.per_round * per_prompt)


def estimated_size(config: Config) -> str:
    """What a round sends between stages (`wire_bytes`) and stores, for the user.

    Images, models, checkpoints and the responses that prompts bring are not counted.
    """
    wire = wire_bytes(config) / 1e6
    return (
        f"at most per round of {config.prompts.per_round} prompts: {wire:,.0f} MB between the stages, "
        f"{2 * wire:,.0f} MB in the run's folder before compression"
    )


def table(config: Config) -> list[list[str]]:
    """The plan as rows of text: role, count, CPUs each, GPUs each, and the label selector of its nodes."""
    nodes_of = config.cluster.nodes_of
    return [
        [r.role, str(r.count), f"{r.cpus:g}", f"{r.gpus:g}", nodes_of(r.placed_as) or "any"]
        for r in resource_requests(config)
    ]
