"""The cluster files agree with Ray's schema, with each other, and with what the shipped configuration asks of their nodes."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.benches import sizes
from vlrm_ray import config as configuration
from vlrm_ray.config import Config
from vlrm_ray.config_sections import ROLES
from vlrm_ray.pipeline import placement, resource_plan
from vlrm_ray.pipeline.placement import Node

CLUSTER = Path(__file__).parents[2] / "cluster"
CLOUDS = ("ray-up-aws.yaml", "ray-up-gcp.yaml")
RAY_UP = (*CLOUDS, "ray-up-onprem.yaml")
KUBERAY = {"kuberay-rayjob.yaml": "RayJob", "kuberay-raycluster.yaml": "RayCluster"}
LABEL = "vlrm-role"
MAY_BE_SPOT = {"generate", "judge", "expert"}
"""Roles whose work is made again if a node is lost. The head, the driver (`cpu`) and train workers are on demand."""
GROUP_FIELDS = {"groupName", "labels", "minReplicas", "maxReplicas", "rayStartParams", "template"}
"""Fields of a worker group in KubeRay's CRD, as far as the files use them."""


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / name).read_text()))


def validate(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return dict(prepared)


def load(*overrides: str) -> Config:
    """The shipped configuration for GPUs."""
    return configuration.load(CLUSTER.parent / "jobs" / "configs" / "qwen2_5_vl_7b.yaml", overrides)


def numbers(text: str) -> list[str]:
    """The numbers of engines and train workers in a command."""
    return re.findall(r"(?:train\.workers|(?:policy|critic)\.engine\.(?:max_)?actors)=\d+", text)


def check_largest(nodes: list[Node], limit: str, command: str) -> None:
    """Check the shipped configuration, with a command's numbers, against the nodes at their largest number and the stated limit.

    Engines and train workers are as many as there are GPUs for: all of the role's nodes, and one of the nodes for training.
    """
    overrides = [f"cluster.labels={LABEL}", *numbers(command)]
    total = {"CPU": sum(node.cpus for node in nodes), "GPU": sum(node.gpus for node in nodes)}
    for largest in (overrides, [text.replace("max_actors", "actors") for text in overrides]):
        placement.check_nodes(load(*largest), nodes, "the cluster")
        resource_plan.check(load(*largest), total, "the cluster")
    assert limit == f"CPU={total['CPU']:.0f},GPU={total['GPU']:.0f}"
    gpus = {role: [node.gpus for node in nodes if node.labels == {LABEL: role}] for role in ROLES}
    config = load(*overrides)
    engines = (config.policy.engine.most_actors, config.critic.engine.most_actors)
    assert engines == (sum(gpus["generate"]), sum(gpus["judge"]))
    assert config.train.workers == gpus["train"][0]
    check_experts(config, [node for node in nodes if node.labels == {LABEL: "expert"}])


def check_experts(config: Config, nodes: list[Node]) -> None:
    """Check that the nodes for experts hold their pools at the largest number, and keep up with the configuration's engines.

    At the rates of docs/cluster.md, also if the detectors work on CPUs.
    """
    pools = [config.experts.detector.pool, config.experts.reader.pool]
    assert sum(pool.max * pool.cpus for pool in pools) <= sum(node.cpus for node in nodes)
    assert sum(pool.max * pool.gpus for pool in pools) <= sum(node.gpus for node in nodes)
    model = sizes.MODELS[0]
    engines = (config.policy.engine.most_actors, config.critic.engine.most_actors)
    plan = sizes._plan(model, *engines, config.train.workers, sizes.train_rates(model, config.train.workers))
    read, detect = plan.expert_cpus
    assert read <= config.experts.reader.pool.max * config.experts.reader.pool.cpus
    assert detect <= config.experts.detector.pool.max * config.experts.detector.pool.cpus


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_accepts_the_file(name: str) -> None:
    assert validate(read(name))["provider"]["type"] in ("aws", "gcp", "local")


@pytest.mark.parametrize("name", CLOUDS)
def test_each_node_gets_its_image(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    prepared = AutoscalingConfig(validate(read(name)))
    images = {kind: prepared.get_docker_config(kind)["image"] for kind in read(name)["available_node_types"]}
    on_cpus = {"head", "cpu"}
    assert images == {k: f"YOUR_REGISTRY/vlrm-ray-{'cpu' if k in on_cpus else 'gpu'}:0.1.0" for k in images}


@pytest.mark.parametrize("name", CLOUDS)
def test_rays_validation_rejects_a_typo(name: str) -> None:
    config = read(name)
    config["available_node_types"]["train"]["max_wrokers"] = 1
    with pytest.raises(Exception, match="max_wrokers"):
        validate(config)


@pytest.mark.parametrize("name", CLOUDS)
def test_each_role_has_a_type_of_nodes_with_its_label(name: str) -> None:
    types = read(name)["available_node_types"]
    assert {key: node["labels"] for key, node in types.items()} == {key: {LABEL: key} for key in (*ROLES, "head")}
    assert types["head"]["resources"]["CPU"] == 0


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cluster_in_the_cloud_starts_small_and_grows_to_what_the_configuration_needs(name: str) -> None:
    config = read(name)
    types = config["available_node_types"]
    nodes = [
        Node(node["resources"]["CPU"], node["resources"].get("GPU", 0), node["labels"])
        for node in types.values()
        for _ in range(node["max_workers"])
    ]
    (limit,) = (option for option in config["docker"]["run_options"] if "VLRM_CLUSTER_MAX" in option)
    check_largest(nodes, limit.partition("VLRM_CLUSTER_MAX=")[2], (CLUSTER / name).read_text())
    assert config["max_workers"] == len(nodes)
    assert {key for key, node in types.items() if node["min_workers"]} == {"cpu"}  # for the driver


def is_spot(node: dict[str, Any]) -> bool:
    settings = node["node_config"]
    aws, gcp = settings.get("InstanceMarketOptions", {}), settings.get("scheduling", {})
    return aws.get("MarketType") == "spot" or gcp.get("provisioningModel") == "SPOT"


@pytest.mark.parametrize("name", CLOUDS)
def test_spot_nodes_are_those_whose_loss_costs_little(name: str) -> None:
    types = read(name)["available_node_types"]
    assert {key for key, node in types.items() if is_spot(node)} == MAY_BE_SPOT


@pytest.mark.parametrize("name", CLOUDS)
def test_nodes_with_gpus_have_the_image_for_gpus(name: str) -> None:
    config = validate(read(name))
    for key, node in config["available_node_types"].items():
        image = config["docker"]["head_image" if key == "head" else "worker_image"]
        image = node.get("docker", {}).get("worker_image", image)
        assert ("vlrm-ray-gpu" in image) is bool(node["resources"].get("GPU")), key


def test_each_node_on_aws_names_its_image_because_ray_would_take_one_with_an_old_driver() -> None:
    for node in read("ray-up-aws.yaml")["available_node_types"].values():
        has_gpu = bool(node["resources"].get("GPU"))
        assert node["node_config"]["ImageId"] == ("YOUR_GPU_AMI" if has_gpu else "YOUR_AMI")


def test_nodes_with_gpus_on_google_cloud_have_a_driver_for_cuda_13() -> None:
    for node in read("ray-up-gcp.yaml")["available_node_types"].values():
        (disk,) = node["node_config"]["disks"]
        image = disk["initializeParams"]["sourceImage"]
        assert image.endswith("-nvidia-580" if node["resources"].get("GPU") else "/common-cpu-ubuntu-2204")


def test_disks_on_google_cloud_are_of_a_type_that_all_machines_take_and_in_the_zone() -> None:
    config = read("ray-up-gcp.yaml")
    expected = f"zones/{config['provider']['availability_zone']}/diskTypes/pd-balanced"
    for node in config["available_node_types"].values():
        assert [disk["initializeParams"]["diskType"] for disk in node["node_config"]["disks"]] == [expected]


@pytest.mark.parametrize(("name", "key"), zip(CLOUDS, ("IamInstanceProfile", "serviceAccounts"), strict=True))
def test_workers_may_use_the_bucket_and_the_head_keeps_the_rights_that_ray_gives_it(name: str, key: str) -> None:
    types = read(name)["available_node_types"]
    assert {kind for kind, node in types.items() if node["node_config"].get(key)} == set(ROLES)


@pytest.mark.parametrize("place", ["docs/cluster.md", "cluster/ray-up-aws.yaml"])
def test_the_head_on_aws_is_told_to_need_the_right_to_hand_on_a_role(place: str) -> None:
    assert "iam:PassRole" in (CLUSTER.parent / place).read_text()


@pytest.mark.parametrize("name", ["docs/cluster.md", "cluster/Dockerfile.gpu"])
def test_the_driver_that_is_needed_is_told(name: str) -> None:
    assert "NVIDIA driver >= 580" in (CLUSTER.parent / name).read_text()


@pytest.mark.parametrize("name", RAY_UP)
def test_the_dashboard_is_on_loopback_and_all_nodes_share_a_token(name: str) -> None:
    config = read(name)
    (head,) = (line for line in config["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    if name in CLOUDS:
        assert all("RAY_AUTH_MODE=token" in (CLUSTER / f"Dockerfile.{kind}").read_text() for kind in ("cpu", "gpu"))
    else:
        commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
        assert all("RAY_AUTH_MODE=token" in line for line in commands if "ray start" in line)


def test_machines_of_ones_own_bring_their_labels() -> None:
    """Ray's local provider has one type of nodes, so the label cannot be in the cluster file."""
    config = read("ray-up-onprem.yaml")
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("--labels-file=$HOME/vlrm-labels.yaml" in line for line in starts if "ray start" in line)
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize("place", ["docs/cluster.md", "cluster/ray-up-onprem.yaml"])
def test_machines_of_ones_own_are_started_with_an_autoscaler_that_counts_all_workers(place: str) -> None:
    """Autoscaler v2 counts the head as one of the single type of nodes."""
    lines = (CLUSTER.parent / place).read_text().splitlines()
    starts = [line for line in lines if "ray up -y cluster/ray-up-onprem.yaml" in line]
    assert starts
    assert all("RAY_UP_enable_autoscaler_v2=0 ray up" in line for line in starts)


def recipe(heading: str) -> str:
    """The part of the documentation under a heading."""
    text = (CLUSTER.parent / "docs" / "cluster.md").read_text()
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("heading", ["One machine with 8 GPUs", "With `ray up`", "With Slurm"])
def test_recipes_without_an_image_install_what_reads_text_in_the_shipped_configuration(heading: str) -> None:
    """The CPU build, in the version and under the constraints of the image; so the configuration reads text on CPUs."""
    assert load().experts.reader.engine == "paddle"
    assert load().experts.reader.pool.gpus == 0
    pinned = "--constraints .ci/constraints-gpu.txt --overrides .ci/overrides-gpu.txt paddlepaddle==3.3.1"
    assert pinned in recipe(heading)
    assert pinned in " ".join((CLUSTER / "Dockerfile.gpu").read_text().replace("\\\n", " ").split())


def test_a_job_is_submitted_when_the_tunnel_is_there_and_the_cluster_outlives_the_command() -> None:
    """A recipe is pasted as a whole. `ray dashboard` takes seconds; with the terminal as its input ssh is stopped in the background."""
    blocks = re.findall(r"```sh\n(.*?)```", recipe("With `ray up`"), re.DOTALL)
    submissions = [block for block in blocks if "ray job submit" in block]
    assert len(submissions) == 2  # in a cloud, and on machines of one's own
    for block in submissions:
        tunnel, wait, submit = (block.find(text) for text in ("\nray dashboard ", "ray job list", "ray job submit"))
        assert 0 < tunnel < wait < submit
        assert re.search(r"\nray dashboard \S+ < /dev/null .*&", block)
        assert "ray down" not in block


@pytest.mark.parametrize("place", ["docs/cluster.md", *(f"cluster/{name}" for name in (*CLOUDS, *KUBERAY))])
def test_commands_for_clusters_that_grow_ask_for_the_same_numbers(place: str) -> None:
    text = (CLUSTER.parent / place).read_text()
    text = recipe("With `ray up`") if place.endswith(".md") else text
    expected = ["train.workers=8", "policy.engine.max_actors=4", "critic.engine.max_actors=6"]
    assert numbers(text) == expected


@pytest.mark.parametrize("place", ["docs/cluster.md", "cluster/slurm.sbatch"])
def test_the_numbers_for_slurm_fill_two_nodes_of_8_gpus_with_the_detectors(place: str) -> None:
    text = recipe("With Slurm") if place.endswith(".md") else (CLUSTER.parent / place).read_text()
    (command, *again) = [line for line in text.replace("\\\n#", "").splitlines() if numbers(line)]
    assert all(numbers(line) == numbers(command) for line in again)
    serve = {role: {LABEL: "serve"} for role in ("generate", "judge", "expert")}
    config = load(f"cluster.labels={json.dumps({'train': {LABEL: 'train'}, **serve})}", *numbers(command))
    nodes = [Node(96, 8, {LABEL: role}) for role in ("train", "serve")]
    placement.check_nodes(config, nodes, "the job")
    pool = config.experts.detector.pool
    assert config.train.workers == 8
    assert config.policy.engine.actors + config.critic.engine.actors + pool.max * pool.gpus == 8


def test_the_recipe_for_one_gpu_asks_for_what_it_says() -> None:
    text = recipe("One GPU of 80 GB")
    config = load(*re.findall(r"(?<= )[a-z_.]+=[\w.]+", text.partition("```sh")[2].partition("```")[0]))
    assert "13 CPUs and 1 GPU at the same time" in text
    assert resource_plan.peak(config) == (13, 1)


@pytest.mark.parametrize("page", ["README.md", "docs/cluster.md", "docs/watching.md"])
def test_a_head_is_not_started_without_a_token(page: str) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (CLUSTER.parent / page).read_text(), re.DOTALL)
    starts = [block for block in blocks if "ray start --head" in block]
    assert starts
    assert all("export RAY_AUTH_MODE=token" in block.partition("ray start --head")[0] for block in starts)


def test_the_recipe_of_kuberay_adds_its_charts_before_it_installs_an_operator_that_knows_the_fields() -> None:
    text = recipe("With KubeRay")
    assert 0 < text.find("helm repo add kuberay ") < text.find("helm install kuberay-operator")
    assert "kuberay/kuberay-operator --version 1.5.1" in text


def cluster_spec(name: str) -> dict[str, Any]:
    spec = read(name)["spec"]
    return dict(spec.get("rayClusterSpec", spec))


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_file_is_of_its_kind(name: str) -> None:
    document = read(name)
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", KUBERAY[name])
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}


def test_a_job_and_a_cluster_that_stays_have_the_same_nodes() -> None:
    job, cluster = (cluster_spec(name) for name in KUBERAY)
    assert job == cluster


def test_the_cluster_scales_by_autoscaler_v2_and_asks_for_a_token() -> None:
    import ray

    spec = cluster_spec("kuberay-rayjob.yaml")
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == ray.__version__
    head = spec["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["labels"] == {LABEL: "head"}


def test_every_worker_group_has_its_label_its_image_and_equal_limits() -> None:
    spec = cluster_spec("kuberay-rayjob.yaml")
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == set(ROLES)
    for name, group in groups.items():
        assert set(group) == GROUP_FIELDS
        assert group["labels"] == {LABEL: name}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        limits, requests = container["resources"]["limits"], dict(container["resources"]["requests"])
        assert requests.pop("ephemeral-storage").endswith("Gi")
        assert limits == requests
        has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert ("vlrm-ray-gpu" in container["image"]) is has_gpu
        assert ("nodeSelector" in group["template"]["spec"]) is (name in MAY_BE_SPOT)


def test_workers_on_kubernetes_may_use_the_bucket_and_the_head_keeps_kuberays_account() -> None:
    spec = cluster_spec("kuberay-rayjob.yaml")
    assert "serviceAccountName" not in spec["headGroupSpec"]["template"]["spec"]
    for group in spec["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] == "YOUR_SERVICE_ACCOUNT"
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "vlrm-env", "optional": True}}]


def test_workers_keep_models_in_a_volume_and_not_in_the_containers_layer() -> None:
    for group in cluster_spec("kuberay-rayjob.yaml")["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert {"name": "cache", "emptyDir": {}} in pod["volumes"]
        assert {"name": "cache", "mountPath": "/root/.cache"} in pod["containers"][0]["volumeMounts"]


def test_train_workers_find_shared_memory_for_nccl() -> None:
    (group,) = (g for g in cluster_spec("kuberay-rayjob.yaml")["workerGroupSpecs"] if g["groupName"] == "train")
    spec = group["template"]["spec"]
    (volume,) = (volume for volume in spec["volumes"] if volume["emptyDir"])
    assert volume["emptyDir"]["medium"] == "Memory"
    assert {"name": volume["name"], "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]


def test_the_worker_groups_are_large_enough_for_the_shipped_configuration() -> None:
    job = read("kuberay-rayjob.yaml")
    nodes = []
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        node = Node(float(limits["cpu"]), float(limits.get("nvidia.com/gpu", 0)), group["labels"])
        nodes += [node] * group["maxReplicas"]
        if group["groupName"] == "cpu":  # where the driver is
            env = group["template"]["spec"]["containers"][0]["env"]
    (limit,) = (entry["value"] for entry in env if entry["name"] == "VLRM_CLUSTER_MAX")
    check_largest(nodes, limit, job["spec"]["entrypoint"])


def test_the_rayjob_removes_its_cluster_resumes_and_has_its_driver_on_a_node_for_cpu_work() -> None:
    job = read("kuberay-rayjob.yaml")["spec"]
    assert job["shutdownAfterJobFinishes"] is True
    assert job["backoffLimit"] > 0
    assert f"cluster.labels={LABEL}" in job["entrypoint"]
    (wanted,) = yaml.safe_load(job["entrypointResources"])
    having = [
        group["groupName"]
        for group in job["rayClusterSpec"]["workerGroupSpecs"]
        if wanted in group["rayStartParams"].get("resources", "")
    ]
    assert having == ["cpu"]
