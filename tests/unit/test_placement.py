"""What a run asks of the nodes of a cluster: labels by role, and resources that are on one node."""

from pathlib import Path

import pytest

from vlrm_ray import config as configuration
from vlrm_ray.config import Config
from vlrm_ray.config_sections import ROLES
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.placement import Node, check_nodes, matches, unlabelled

GPUS = (
    "policy.engine.actors=2", "policy.engine.gpus=1", "critic.engine.actors=1", "critic.engine.gpus=1",
    "critic.engine.tensor_parallel=2", "train.workers=4", "train.gpus=1", "experts.detector.pool.gpus=0.25",
    "experts.reader.pool.gpus=0.25",
)  # fmt: skip
LABELS = "cluster.labels=vlrm-role"


def node(role: str, gpus: float = 0, cpus: float = 16) -> Node:
    return Node(cpus, gpus, {"vlrm-role": role})


CLUSTER = [node("generate", 1), node("generate", 1), node("judge", 2), node("train", 4), node("expert", 1), node("cpu")]


def load(*overrides: str) -> Config:
    return configuration.load(None, [*GPUS, *overrides])


def without(role: str) -> list[Node]:
    return [n for n in CLUSTER if n.labels["vlrm-role"] != role]


def test_a_labels_name_stands_for_the_selectors_of_all_roles() -> None:
    assert load(LABELS).cluster.labels == {role: {"vlrm-role": role} for role in ROLES}
    assert load().cluster.labels == {}


def test_spaces_in_a_condition_are_dropped_because_ray_would_compare_them() -> None:
    labels = load("cluster.labels={train: {a: '!in(b, c)'}}").cluster.labels
    assert labels == {"train": {"a": "!in(b,c)"}}


@pytest.mark.parametrize(
    "labels",
    ["{trainer: {a: b}}", "{train: b}", "{train: {'a b': c}}", "{train: {a: 'in('}}", "{train: {a: 'b c'}}", "3"],
)
def test_what_is_no_selector_is_refused(labels: str) -> None:
    with pytest.raises(UserError, match=r"cluster\.labels"):
        load(f"cluster.labels={labels}")


@pytest.mark.parametrize(
    ("condition", "satisfied"),
    [
        ("train", {"train"}),
        ("!train", {"judge", ""}),
        ("in(train, judge)", {"train", "judge"}),
        ("!in(train,judge)", {""}),
    ],
)
def test_conditions_mean_what_ray_means_by_them(condition: str, satisfied: set[str]) -> None:
    labels = {"train": {"a": "train"}, "judge": {"a": "judge"}, "": {}}
    assert {name for name, found in labels.items() if matches({"a": condition}, found)} == satisfied


def test_a_cluster_with_a_node_of_each_role_is_large_enough() -> None:
    check_nodes(load(LABELS), CLUSTER, "the cluster")


@pytest.mark.parametrize("role", ROLES)
def test_a_label_that_no_node_has_is_named_with_those_that_there_are(role: str) -> None:
    with pytest.raises(
        UserError,
        match=rf"^no node of the cluster has the label vlrm-role={role}, which cluster\.labels\.{role} wants for each ",
    ) as caught:
        check_nodes(load(LABELS), without(role), "the cluster")
    there = "judge" if role == "train" else "train"
    assert f"vlrm-role={there} on 1" in str(caught.value)
    assert "ray start --labels" in str(caught.value)


def test_a_node_that_serves_two_roles_is_selected_by_both() -> None:
    config = load("cluster.labels={generate: {pool: serve}, judge: {pool: 'in(serve, spare)'}, train: {pool: train}}")
    check_nodes(config, [Node(64, 5, {"pool": "serve"}), Node(64, 4, {"pool": "train"})], "the cluster")
    assert unlabelled(config, [Node(64, 9, {"pool": "serve"})], "it")[0].startswith(
        "no node of it has the label pool=train"
    )


def test_an_engine_with_tensor_parallel_needs_its_gpus_on_one_node() -> None:
    nodes = [*without("judge"), node("judge", 1), node("judge", 1)]
    with pytest.raises(
        UserError,
        match=r"^no node with vlrm-role=judge of the cluster is large enough for a critique writer \(.* 2 GPU",
    ):
        check_nodes(load(LABELS), nodes, "the cluster")


def test_train_workers_may_be_on_several_nodes_but_not_on_more_gpus_than_there_are() -> None:
    check_nodes(load(LABELS), [*without("train"), node("train", 2), node("train", 2)], "the cluster")
    with pytest.raises(UserError, match=r"^only 3 of 4 x train worker \(.*\) fit on the nodes with vlrm-role=train"):
        check_nodes(load(LABELS), [*without("train"), node("train", 3)], "the cluster")


def test_fractions_of_a_gpu_that_no_single_gpu_holds_are_refused() -> None:
    """Two GPUs have room for three fractions of 0.6 by their sum, but each fraction is of one GPU."""
    config = load(LABELS, "train.workers=3", "train.gpus=0.6")
    with pytest.raises(UserError, match=r"only 2 of 3 x train worker"):
        check_nodes(config, [*without("train"), node("train", 2)], "the cluster")
    check_nodes(config, [*without("train"), node("train", 3)], "the cluster")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.gpus=0.5", "train.workers=2"], "NCCL refuses: set train.workers=1, or train.gpus=1"),
        (
            ["critic.engine.gpus=0.5", "critic.engine.tensor_parallel=2"],
            "critic.engine.tensor_parallel=2 needs whole GPUs",
        ),
    ],
)
def test_processes_that_communicate_by_nccl_are_not_put_on_one_gpu(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resource_plan.check(configuration.load(None, overrides), {"CPU": 99.0, "GPU": 99.0}, "the cluster")


def test_roles_with_the_same_selector_share_its_nodes() -> None:
    serve = "{generate: {pool: serve}, judge: {pool: serve}, train: {pool: train}}"
    config = load(f"cluster.labels={serve}")
    nodes = [Node(64, 3, {"pool": "serve"}), Node(64, 4, {"pool": "train"}), Node(64, 8)]
    with pytest.raises(
        UserError, match=r"pool=serve have 3 GPU, but the rollout phase needs 4 .* 2 x policy generator"
    ):
        check_nodes(config, nodes, "the cluster")


def test_phased_engines_and_train_workers_may_use_the_same_gpus() -> None:
    same = "cluster.labels={generate: {pool: gpu}, judge: {pool: gpu}, train: {pool: gpu}}"
    nodes = [Node(64, 4, {"pool": "gpu"}), Node(64, 1)]
    check_nodes(load(same, "cluster.placement=phased"), nodes, "the cluster")
    with pytest.raises(UserError, match=r"pool=gpu have 4 GPU, but the training phase needs 8"):
        check_nodes(load(same), nodes, "the cluster")


def test_without_labels_only_resources_count() -> None:
    check_nodes(load(), [Node(64, 16)], "the cluster")
    check_nodes(Config(), [Node(2, 0)], "this machine")
    with pytest.raises(UserError, match="no node of the cluster is large enough for a critique writer"):
        check_nodes(load(), [Node(16, 1)] * 9, "the cluster")


def test_the_plan_shows_where_each_role_goes() -> None:
    rows = {row[0]: row[-1] for row in resource_plan.table(load("cluster.labels={train: {pool: train}}"))}
    assert (rows["train worker"], rows["policy generator"]) == ("pool=train", "any")


ELASTIC = ("policy.engine.max_actors=4", "policy.engine.reproducible=false")


def test_with_overlap_engines_that_may_be_added_must_leave_the_training_its_gpus() -> None:
    """2 generators, a critic on 2 GPUs, 4 train workers and half a GPU of experts; two more generators may come."""
    nodes = [node("any", 9)]
    check_nodes(load("cluster.overlap=1"), nodes, "the cluster")
    check_nodes(load(*ELASTIC), nodes, "the cluster")  # without overlap they end before the training
    with pytest.raises(UserError, match=r"policy\.engine\.max_actors=4 the run may take 10\.5 GPU, .* have 9,"):
        check_nodes(load("cluster.overlap=1", *ELASTIC), nodes, "the cluster")
    check_nodes(load("cluster.overlap=1", *ELASTIC), [node("any", 11)], "the cluster")


SHIPPED = Path(__file__).parents[2] / "jobs" / "configs" / "qwen2_5_vl_7b.yaml"
PINNED = [f"cluster.stages.{stage}.max=1" for stage, _ in Config().cluster.stages] + ["experts.reader.pool.max=1"]


def test_with_overlap_pools_that_may_grow_must_leave_the_training_its_gpus() -> None:
    """Engines and train workers of the 7B configuration have 8 GPUs, and 12 detectors with a quarter each have 3 more."""
    config = configuration.load(SHIPPED, ["cluster.overlap=1", "experts.detector.pool.max=12"])
    resource_plan.check(config, {"CPU": 999, "GPU": 9}, "the cluster")  # at their least number
    with pytest.raises(
        UserError, match=r"experts\.detector\.pool\.max=12 the run may take 11 GPU, .* have 9,"
    ) as caught:
        check_nodes(config, [Node(999, 9)], "the cluster")
    assert "\n" not in str(caught.value)
    check_nodes(config, [Node(999, 11)], "the cluster")


def test_with_overlap_pools_that_may_grow_must_leave_the_training_its_cpus() -> None:
    """40 CPUs of engines, 24 of train workers, 5 of stages, 1 reader, and up to 4 detectors with 4 CPUs each."""
    config = configuration.load(SHIPPED, ["cluster.overlap=1", *PINNED])
    check_nodes(config, [Node(86, 99)], "the cluster")
    with pytest.raises(UserError, match=r"experts\.detector\.pool\.max=4 the run may take 86 CPU, .* have 85,"):
        check_nodes(config, [Node(85, 99)], "the cluster")


def test_of_many_pools_that_may_grow_those_are_named_that_take_most() -> None:
    config = configuration.load(SHIPPED, ["cluster.overlap=1", "experts.detector.pool.max=12"])
    with pytest.raises(
        UserError, match=r"with experts\.detector\.pool\.max=12, .*, cluster\.stages\.verify\.max=8 and 4 more the"
    ):
        check_nodes(config, [Node(96, 99)], "the cluster")


def test_pools_may_grow_over_nodes_on_which_no_worker_trains() -> None:
    apart = [LABELS, "cluster.overlap=1", "experts.detector.pool.max=4", "cluster.stages.verify.max=40"]
    check_nodes(load(*apart), CLUSTER, "the cluster")
    check_nodes(load(*apart[2:]), [Node(64, 16)], "the cluster")  # without overlap pools end before the training


def test_engines_cannot_grow_over_nodes_that_are_for_training_alone() -> None:
    check_nodes(load(LABELS, "cluster.overlap=1", *ELASTIC), CLUSTER, "the cluster")
    apart = "cluster.labels={train: {vlrm-role: train}, generate: {vlrm-role: '!train'}, judge: {vlrm-role: '!train'}}"
    check_nodes(load(apart, "cluster.overlap=1", *ELASTIC), CLUSTER, "the cluster")
