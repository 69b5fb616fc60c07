"""Connects the driver to Ray: joins an existing cluster, or starts a local one on this machine."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import resource_plan

NAMESPACE = "vlrm"
"""Ray namespace of the named actors."""
CODE_PACKAGES = ("vlrm_ray", "actors", "jobs")
"""Packages of the checkout that workers import."""
SUBMITTED_JOB_ENV = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in the driver of a submitted job."""
WORKER_ENV = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    "PYTHONWARNINGS": "ignore",
}
"""Environment of all processes of a run: no telemetry, quiet libraries."""
CPU_ENV = {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1"}
"""Additional environment of an engine without GPU."""


def address_of(config: Config) -> str:
    """Address of the cluster to join; empty if a local one is to be started."""
    return config.cluster.address or os.environ.get("RAY_ADDRESS", "")


def local_cluster_env(config: Config) -> dict[str, str]:
    """Environment of a local cluster; variables that the user has set take precedence."""
    return {
        "RAY_AUTH_MODE": "disabled",  # the cluster listens on this machine only
        # If actors occupy all cores, Ray ends idle workers after one second. Each burst of the graph's tasks would then
        # start new processes, whose imports take longer than their work.
        "RAY_idle_worker_killing_time_threshold_ms": "600000",
        # How many workers start at the same time. From four times this number on, Ray warns of too many workers.
        "RAY_worker_maximum_startup_concurrency": str(max(8, config.cluster.cpus)),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a single node is never drained
    }


@contextmanager
def connected(config: Config, log: Callable[[str], None]) -> Iterator[str]:
    """Context manager: the driver is connected to a Ray cluster that has the resources the run needs.

    Args:
        config: configuration of the run.
        log: prints a line; called when the start of Ray is retried.

    Yields:
        The dashboard's address, empty without a dashboard.

    Raises:
        UserError: if the cluster cannot be reached, does not start, or is too small.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(config.train.start_timeout)
    os.environ.setdefault("RAY_DATA_USE_DATASOURCE_V2", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # C++ messages in the driver; log files keep all
    address = address_of(config)
    if not address:
        for name, value in local_cluster_env(config).items():
            os.environ.setdefault(name, value)
    import ray

    dashboard = _join(config, address, log)
    try:
        where = f"the cluster at {address}" if address else "the local cluster"
        resource_plan.check(config, ray.cluster_resources() | _autoscaler_limit(), where)
        yield dashboard
    finally:
        ray.shutdown()


def _join(config: Config, address: str, log: Callable[[str], None], attempts: int = 3) -> str:
    """Connect to the cluster, with retries for a local one; returns the dashboard's address."""
    import ray

    settings = config.cluster
    local_cluster = {
        "num_cpus": settings.cpus,
        "include_dashboard": settings.dashboard,
        "dashboard_host": "127.0.0.1",
        "object_store_memory": settings.object_store_mb << 20,
    }
    environment = WORKER_ENV | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(config.train.start_timeout)}
    runtime_env: dict[str, Any] = {"env_vars": environment}
    root = Path(__file__).resolve().parents[2]
    if not address:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    elif not os.environ.get(SUBMITTED_JOB_ENV):  # the working directory of a submitted job is on every node already
        runtime_env["py_modules"] = [str(root / name) for name in CODE_PACKAGES if (root / name).is_dir()]
    for attempt in range(1, attempts + 1):
        try:
            context = ray.init(
                address=address or "local",
                namespace=NAMESPACE,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=runtime_env,
                **({} if address else local_cluster),
            )
            return str(context.dashboard_url or "")
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}; "
                "start it, or correct cluster.address or RAY_ADDRESS"
            ) from error
        except Exception as error:  # Ray raises many types, also plain Exception, when a busy machine misses a deadline
            ray.shutdown()
            if attempt == attempts or address:
                raise UserError(
                    f"Ray did not start: {str(error).splitlines()[0]}; see Ray's logs, by default in /tmp/ray"
                ) from error
            log(f"Ray did not start in time, retrying (attempt {attempt} of {attempts} failed)")
            time.sleep(3)
    raise AssertionError("unreachable")


def _autoscaler_limit() -> dict[str, float]:
    """Largest size of an autoscaling cluster, from the environment: VLRM_CLUSTER_MAX="CPU=64,GPU=8"."""
    limit = os.environ.get("VLRM_CLUSTER_MAX", "")
    try:
        return {name: float(value) for name, value in (item.split("=") for item in limit.split(",") if item)}
    except ValueError:
        raise UserError(
            f"VLRM_CLUSTER_MAX={limit!r} cannot be read; write name=number pairs such as 'CPU=64,GPU=8'"
        ) from None
