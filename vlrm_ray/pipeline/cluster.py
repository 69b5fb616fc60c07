"""Joining a Ray cluster, or starting an own one on this machine."""

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
CODE = ("vlrm_ray", "actors", "jobs")
"""Packages of the checkout that workers import."""
SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a submitted job."""
WORKER_ENV = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    "PYTHONWARNINGS": "ignore",
}
"""Set in all processes of a run: no telemetry, quiet libraries."""
CPU_ENV = {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1"}
"""Added where an engine has no GPU."""


def address_of(config: Config) -> str:
    """Cluster to join; empty means an own one."""
    return config.cluster.address or os.environ.get("RAY_ADDRESS", "")


def own_env(config: Config) -> dict[str, str]:
    """Set where Ray is started on this machine, unless the user has set it."""
    return {
        "RAY_AUTH_MODE": "disabled",  # only this machine can reach it
        # Where actors hold the few cores Ray ends idle workers after a second: each burst of the graph's tasks would
        # then start processes anew, and their imports take longer than their work.
        "RAY_idle_worker_killing_time_threshold_ms": "600000",
        # as many may start at a time; from four times as many on Ray warns of too many workers
        "RAY_worker_maximum_startup_concurrency": str(max(8, config.cluster.cpus)),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody drains the only node
    }


@contextmanager
def connected(config: Config, log: Callable[[str], None]) -> Iterator[str]:
    """Be part of a cluster that can hold the run; gives the dashboard's address. Raises UserError."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(config.train.start_timeout)
    os.environ.setdefault("RAY_DATA_USE_DATASOURCE_V2", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the driver's C++ side; the logs keep everything
    address = address_of(config)
    if not address:
        for name, value in own_env(config).items():
            os.environ.setdefault(name, value)
    import ray

    dashboard = _join(config, address, log)
    try:
        resource_plan.check(
            config, ray.cluster_resources() | _autoscaler_limit(), f"the cluster at {address or 'this machine'}"
        )
        yield dashboard
    finally:
        ray.shutdown()


def _join(config: Config, address: str, log: Callable[[str], None], attempts: int = 3) -> str:
    import ray

    settings = config.cluster
    own = {
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
    elif not os.environ.get(SUBMITTED_JOB):  # a submitted job's working directory has the code on every node already
        runtime_env["py_modules"] = [str(root / name) for name in CODE if (root / name).is_dir()]
    for attempt in range(1, attempts + 1):
        try:
            context = ray.init(
                address=address or "local",
                namespace=NAMESPACE,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=runtime_env,
                **({} if address else own),
            )
            return str(context.dashboard_url or "")
        except ConnectionError as error:
            raise UserError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}") from error
        except (
            Exception
        ) as error:  # a busy machine misses deadlines of Ray, which raises many types, plain Exception too
            ray.shutdown()
            if attempt == attempts or address:
                raise UserError(f"Ray did not start: {str(error).splitlines()[0]}") from error
            log(f"Ray did not start in time, trying again ({attempt} of {attempts})")
            time.sleep(3)
    raise AssertionError("unreachable")


def _autoscaler_limit() -> dict[str, float]:
    """What the autoscaler may grow the cluster to, as its operator states it: VLRM_CLUSTER_MAX="CPU=64,GPU=8"."""
    stated = os.environ.get("VLRM_CLUSTER_MAX", "")
    try:
        return {name: float(value) for name, value in (item.split("=") for item in stated.split(",") if item)}
    except ValueError:
        raise UserError(f"VLRM_CLUSTER_MAX={stated!r} is not like 'CPU=64,GPU=8'") from None
