"""Whether the nodes of a cluster can hold what a run places on them: labels, and resources node by node.

`resource_plan.check` compares sums. A run can still wait for ever if no node carries a label that a role asks for, or if
the GPUs of one actor (an engine with `tensor_parallel`) are on different nodes. Everything that is checked here is necessary
for a placement, so no run that fits is refused; that Ray finds a placement is not certain. With overlap that includes all engines
and actors of pools that may be added: they keep the CPUs and GPUs that a training waits for.

Of a cluster that grows only the sums are checked: Ray does not tell which nodes its autoscaler can start.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from vlrm_ray.config import Config
from vlrm_ray.config_sections import Role
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.resource_plan import ResourceRequest, phases, resource_requests

ROUNDING = 1e-6
SHOWN_KEYS = 3
"""Most configuration keys that a message names."""
OWN_LABELS = "ray.io/"
"""Prefix of the labels that Ray sets itself."""
REMEDY = "give nodes the label (`ray start --labels`, or `labels` in the cluster file), or change cluster.labels"
"""What mends a label that no node carries."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        cpus: its logical CPUs.
        gpus: its GPUs.
        labels: its labels.
    """

    cpus: float
    gpus: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def capacity(self, request: ResourceRequest) -> float:
        """How many of the request's actors fit on the node alone; infinite if they need no resources.

        Ray takes a fraction of a GPU from a single one.
        """
        cpus = _ratio(self.cpus, request.cpus)
        gpus = _ratio(self.gpus, request.gpus)
        if 0 < request.gpus < 1:
            gpus = math.floor(self.gpus + ROUNDING) * _ratio(1, request.gpus)
        return min(cpus, gpus)


def _ratio(have: float, need: float) -> float:
    return math.floor(have / need + ROUNDING) if need else math.inf


def nodes_of_cluster() -> list[Node]:
    """The living nodes of the cluster that this process is connected to."""
    import ray

    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0), node.get("Labels", {}))
        for node in ray.nodes()
        if node["Alive"]
    ]


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node's labels satisfy a label selector. A label that the node lacks satisfies only `!` conditions."""
    for key, condition in selector.items():
        negated, wanted = condition.startswith("!"), condition.lstrip("!")
        listed = re.fullmatch(r"in\((.*)\)", wanted)
        values = [value.strip() for value in listed[1].split(",")] if listed else [wanted]
        if (labels.get(key) in values) is negated:
            return False
    return True


def check_nodes(config: Config, nodes: Sequence[Node], where: str) -> None:
    """Check that a cluster of fixed size can hold each phase of a run.

    Args:
        config: configuration of the run.
        nodes: the cluster's nodes.
        where: what the cluster is called in messages.

    Raises:
        UserError: no node carries the label of a role, an actor is too large for each node, or the nodes of a role are
            too few.
    """
    labels = config.cluster.labels
    if missing := unlabelled(config, nodes, where):
        raise UserError(f"{missing[0]}; {REMEDY}")
    for name, phase in phases(config).items():
        for request in phase:
            eligible = [node for node in nodes if matches(labels.get(request.placed_as, {}), node.labels)]
            _check_request(request, eligible, config.cluster.nodes_of(request.placed_as), where)
        for role in {request.placed_as for request in phase}:
            _check_together(config, phase, [n for n in nodes if matches(labels.get(role, {}), n.labels)], role, name)
    if config.cluster.overlap:
        _check_growth(config, nodes, where)


def unlabelled(config: Config, nodes: Iterable[Node], where: str) -> list[str]:
    """A line for each label selector that no node satisfies, with the labels that there are."""
    nodes, roles = list(nodes), {request.placed_as: request.role for request in resource_requests(config)}
    have = labels_text(nodes)
    return [
        f"no node of {where} has the label {config.cluster.nodes_of(role)}, which cluster.labels.{role} wants for each {example} "
        f"(labels of the {len(nodes)} nodes: {have})"
        for role, example in roles.items()
        if not any(matches(config.cluster.labels.get(role, {}), node.labels) for node in nodes)
    ]


def labels_text(nodes: Iterable[Node]) -> str:
    """The labels of some nodes, each with the number of its nodes; labels that Ray sets itself are left out."""
    present = Counter(
        f"{key}={value}" for node in nodes for key, value in node.labels.items() if not key.startswith(OWN_LABELS)
    )
    return ", ".join(f"{label} on {count}" for label, count in sorted(present.items())) or "none"


def _check_request(request: ResourceRequest, nodes: Sequence[Node], labels: str, where: str) -> None:
    """Check that the actors of one role fit on the nodes that they may be on, if these hold nothing else."""
    room = sum(node.capacity(request) for node in nodes)
    if room >= request.count:
        return
    what = f"{request.role} ({request.cpus:g} CPU and {request.gpus:g} GPU, on one node)"
    on = f"with {labels} " if labels else ""
    sizes = Counter(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes)
    have = ", ".join(f"{number} x {size}" for size, number in sizes.most_common(3))
    if room == 0:
        raise UserError(
            f"no node {on}of {where} is large enough for a {what}; the nodes have {have}: lower its cpus, gpus or "
            "tensor_parallel, or add larger nodes"
        )
    raise UserError(
        f"only {room:g} of {request.count} x {what} fit on the nodes {on}of {where}, which have {have}: lower the number, or add nodes"
    )


def _check_together(
    config: Config, phase: Sequence[ResourceRequest], nodes: Sequence[Node], role: Role, name: str
) -> None:
    """Check that all roles of a phase that can be nowhere but on some nodes fit there together, by their sums."""
    labels = config.cluster.labels
    bound = [request for request in phase if labels.get(role) and labels.get(request.placed_as) == labels.get(role)]
    for unit, have, needed in (
        ("CPU", sum(n.cpus for n in nodes), sum(r.count * r.cpus for r in bound)),
        ("GPU", sum(n.gpus for n in nodes), sum(r.count * r.gpus for r in bound)),
    ):
        if needed > have + ROUNDING:
            roles = ", ".join(f"{r.count} x {r.role}" for r in bound)
            raise UserError(
                f"the nodes with {config.cluster.nodes_of(bound[0].placed_as)} have {have:g} {unit}, but the {name} phase needs "
                f"{needed:g} of them at the same time for {roles}; lower their numbers or {unit.lower()}s, or add nodes"
            )


def _check_growth(config: Config, nodes: Sequence[Node], where: str) -> None:
    """Check that engines and pools which grow while a round trains leave the train workers their CPUs and GPUs."""

    def of_role(role: Role) -> list[Node]:
        return [node for node in nodes if matches(config.cluster.labels.get(role, {}), node.labels)]

    requests, trains, shared = resource_requests(config), of_role("train"), of_role("train")
    growing = [r for r in requests if r.most > r.count and any(node in trains for node in of_role(r.placed_as))]
    for request in growing:
        shared += [node for node in of_role(request.placed_as) if node not in shared]
    bound = [r for r in requests if all(node in shared for node in of_role(r.placed_as))]
    for unit, have, amount in (
        ("GPU", sum(node.gpus for node in shared), attrgetter("gpus")),
        ("CPU", sum(node.cpus for node in shared), attrgetter("cpus")),
    ):
        added = {r: (r.most - r.count) * amount(r) for r in growing if amount(r)}
        needed = sum(r.count * amount(r) for r in bound) + sum(added.values())
        if added and needed > have + ROUNDING:
            keys = [f"{r.limit}={r.most}" for r in sorted(added, key=lambda r: -added[r])]
            more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
            raise UserError(
                f"with cluster.overlap=1 engines and pools may grow while a round trains: with {', '.join(keys[:SHOWN_KEYS])}{more} the "
                f"run may take {needed:g} {unit}, but the nodes of {where} that they share with train workers have {have:g}, so that "
                "training could wait for ever; lower these keys, give train workers nodes of their own (cluster.labels), or add nodes"
            )
