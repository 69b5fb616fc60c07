"""The cluster files agree with Ray's schema and with the shipped configuration."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
GROUPS = {"generate", "train", "expert", "cpu"}


def ray_up() -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / "ray-up-aws.yaml").read_text()))


def validate(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_accepts_the_cluster_file() -> None:
    config = ray_up()
    validate(config)
    assert set(config["available_node_types"]) >= GROUPS


def test_rays_validation_rejects_a_typo() -> None:
    config = ray_up()
    config["available_node_types"]["train"]["max_wrokers"] = 1
    with pytest.raises(Exception, match="max_wrokers"):
        validate(config)


def test_the_cluster_uses_token_authentication_and_exposes_no_dashboard() -> None:
    text = (CLUSTER / "ray-up-aws.yaml").read_text()
    assert "RAY_AUTH_MODE=token" in text
    assert "--dashboard-host=127.0.0.1" in text
    assert "auth_token" in str(ray_up()["file_mounts"])


@pytest.fixture
def job() -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / "kuberay-rayjob.yaml").read_text()))


def test_the_rayjob_removes_its_cluster(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "jobs/iterate.py" in job["spec"]["entrypoint"]
    assert isinstance(yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"], dict)


def test_the_rayjobs_cluster_autoscales_and_requires_a_token(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    assert {g["groupName"] for g in cluster["workerGroupSpecs"]} == GROUPS
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_every_worker_group_is_valid(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(v, str) for v in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        if "maxReplicas" in group:
            assert 0 <= group["minReplicas"] <= group["maxReplicas"]


def test_the_worker_groups_are_large_enough_for_the_shipped_configuration(job: dict[str, Any]) -> None:
    from vlrm_ray import config
    from vlrm_ray.pipeline import resource_plan

    limits: dict[str, float] = {"CPU": 0.0, "GPU": 0.0}
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        resources = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        limits["CPU"] += group["maxReplicas"] * float(resources["cpu"])
        limits["GPU"] += group["maxReplicas"] * float(resources.get("nvidia.com/gpu", 0))
    resource_plan.check(
        config.load(CLUSTER.parent / "jobs" / "configs" / "qwen2_5_vl_7b.yaml"), limits, "the job's cluster"
    )
    cluster_max = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["VLRM_CLUSTER_MAX"]
    assert cluster_max == f"CPU={limits['CPU']:.0f},GPU={limits['GPU']:.0f}"
