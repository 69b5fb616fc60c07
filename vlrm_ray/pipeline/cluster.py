"""Connects the driver to Ray: joins an existing cluster, or starts a local one on this machine."""

import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError, first_line, stopped_by_signals
from vlrm_ray.pipeline import placement, resource_plan
from vlrm_ray.pipeline.cluster_probe import prepare_to_join
from vlrm_ray.pipeline.loopback import on_loopback
from vlrm_ray.store.models import OFFLINE_ENV

CODE_PACKAGES = ("vlrm_ray", "actors", "jobs")
"""Packages of the checkout that workers import."""
SUBMITTED_JOB_ENV = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in the driver of a submitted job."""
WORKER_ENV = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # FlashInfer compiles its sampler with nvcc, which images and pip installs lack; requests with seeds never use it
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    "PYTHONWARNINGS": "ignore",
}
"""Environment of all processes of a run: no telemetry, quiet libraries, no compiler for CUDA."""
CPU_ENV = {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1"}
"""Additional environment of an engine without GPU."""
START_ATTEMPTS = 5
"""How often the start of a local cluster is tried."""
REASON_CHARACTERS = 2000
"""Most characters of Ray's reason for not joining: what is wrong comes first, and what to do about it last."""


def environment(config: Config) -> dict[str, str]:
    """Environment of the processes of a run: `WORKER_ENV`, and what `offline` adds."""
    return WORKER_ENV | (OFFLINE_ENV if config.offline else {})


def without_those_of_the_job(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables without those that the submitted job's own runtime environment sets, which take precedence.

    Ray refuses a driver that sets a variable of its job again, even to the same value. Outside a submitted job nothing is left
    out.
    """
    given = _env_of_the_job().get("env_vars") or {}
    return {name: value for name, value in variables.items() if name not in given}


def check_kept(key: str, path: str) -> None:
    """Check that what a submitted job writes is still there for the next one.

    Args:
        key: what sets the path, for the message.
        path: path or URI of a file or folder that the job writes.

    Raises:
        UserError: the path is relative, and starts in the job's own copy of the code: Ray deletes it, and a job that is
            submitted with any changed file has another one.
    """
    if _env_of_the_job().get("working_dir") and "://" not in path and not os.path.isabs(path):
        raise UserError(
            f"{key}={path} is relative, so it would be in this job's own copy of the code, which Ray deletes; give an "
            "absolute path that all nodes have, or a URI such as s3://bucket/runs"
        )


def _env_of_the_job() -> dict[str, Any]:
    """Runtime environment of the submitted job that this process is the driver of; empty outside a submitted job."""
    return dict(json.loads(os.environ.get(SUBMITTED_JOB_ENV) or "{}").get("runtime_env") or {})


def address_of(config: Config) -> str:
    """Address of the cluster to join; empty if a local one is to be started, as with the address `local`."""
    address = (config.cluster.address or os.environ.get("RAY_ADDRESS", "")).strip()
    return "" if address == "local" else address


def stage_name(config: Config) -> str:
    """What `connected` does, as the name of a stage."""
    address = address_of(config)
    return f"join Ray at {address}" if address else "start Ray"


def namespace_of(config: Config) -> str:
    """A new Ray namespace for the named actors of a run, so that several runs on one cluster can use the same names."""
    return f"{config.name}-{uuid.uuid4().hex[:8]}"


def local_cluster_env(config: Config) -> dict[str, str]:
    """Environment of a local cluster; variables that the user has set take precedence."""
    return {
        "RAY_AUTH_MODE": "disabled",  # it listens on the loopback interface only; on a machine with other users set `token`
        # How many workers start at the same time. From four times this number on, Ray warns of too many workers.
        "RAY_worker_maximum_startup_concurrency": str(max(8, config.cluster.cpus)),
        "RAY_worker_register_timeout_seconds": "300",  # Ray's 60 s are too few on a busy machine
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a single node is never drained
        # The process of an engine whose actor was killed would keep its GPU, so that no other one can start there.
        "RAY_process_group_cleanup_enabled": "1",
    }


@contextmanager
def connected(config: Config, log: Callable[[str], None]) -> Iterator[str]:
    """Context manager: the driver is connected to a Ray cluster that has the resources the run needs.

    Args:
        config: configuration of the run.
        log: prints a line; called when the start of Ray is retried, and when other work has resources that the run needs.

    Yields:
        The dashboard's address, empty without a dashboard.

    Raises:
        UserError: if the cluster cannot be reached, does not start, or is too small.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(config.train.start_timeout)
    os.environ.setdefault("RAY_DATA_USE_DATASOURCE_V2", "0")
    if config.cluster.verbosity < 2:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # C++ messages in the driver; log files keep all
    address = address_of(config)
    if not address:
        for name, value in local_cluster_env(config).items():
            os.environ.setdefault(name, value)
    with nullcontext() if address else on_loopback():
        yield from _connected(config, address, log)


def _connected(config: Config, address: str, log: Callable[[str], None]) -> Iterator[str]:
    """Connect to the cluster at `address`, or start a local one; yields the dashboard's address, and disconnects."""
    import ray

    if address:
        address = prepare_to_join(address, "cluster.address" if config.cluster.address else "RAY_ADDRESS")
    with stopped_by_signals() as handle_signals:
        try:
            context = _join(config, address, log)
            handle_signals()  # again: Ray has a handler of SIGTERM, by which the driver would abort
            where = f"the cluster at {address}" if address else "the local cluster"
            _check_size(config, where, log)
            if address and not _autoscaler_limit():
                _tell_wait(config, ray.available_resources(), log)
            if session := context.address_info.get("session_dir"):
                log(f"Ray's log files are in {os.path.join(session, 'logs')}")
            yield str(context.dashboard_url or "")
        finally:
            ray.shutdown()


def _join(config: Config, address: str, log: Callable[[str], None]) -> Any:
    """Connect to the cluster at `address`, or start a local one; returns what `ray.init` returns."""
    from ray.job_config import JobConfig

    settings = config.cluster
    variables = environment(config) | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(config.train.start_timeout)}
    runtime_env: dict[str, Any] = {"env_vars": variables}
    options: dict[str, Any] = {
        "namespace": namespace_of(config),
        "job_config": JobConfig(metadata={"job_name": config.name}),  # its name on Ray's dashboard
        "logging_level": (logging.ERROR, logging.WARNING, logging.INFO)[settings.verbosity],
        "log_to_driver": settings.verbosity > 0,
        "runtime_env": runtime_env,
    }
    root = Path(__file__).resolve().parents[2]
    if address:
        if not os.environ.get(SUBMITTED_JOB_ENV):  # the working directory of a submitted job is on every node already
            runtime_env["py_modules"] = [str(root / name) for name in CODE_PACKAGES if (root / name).is_dir()]
        runtime_env["env_vars"] = without_those_of_the_job(variables)
        return _connect(address, options)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    options |= {
        "num_cpus": settings.cpus,
        "include_dashboard": settings.dashboard,
        "dashboard_host": "127.0.0.1",
        "object_store_memory": settings.object_store_mb << 20,
    }
    return start_local(options, log)


def _connect(address: str, options: dict[str, Any]) -> Any:
    """Join a cluster that has answered before."""
    import ray

    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # one attempt to connect, instead of 20
    try:
        return ray.init(address=address, **options)
    except Exception as error:  # Ray raises many types
        ray.shutdown()
        raise UserError(
            f"the Ray cluster at {address} cannot be joined: {first_line(error, REASON_CHARACTERS)}; see Ray's logs on its head "
            "node"
        ) from error


def start_local(options: dict[str, Any], log: Callable[[str], None]) -> Any:
    """Start a cluster on this machine. Ray allows a node 30 s to start, which a busy machine exceeds: so retry.

    Args:
        options: arguments of `ray.init`.
        log: prints a line when the start is retried.

    Returns:
        What `ray.init` returns.

    Raises:
        UserError: if it does not start.
    """
    import ray

    for attempt in range(1, START_ATTEMPTS + 1):
        others = set(psutil.Process().children(recursive=True))
        try:
            return ray.init(address="local", **options)
        except Exception as error:  # Ray raises many types, also plain Exception
            ray.shutdown()
            _kill_children(others)
            if attempt == START_ATTEMPTS:
                raise UserError(
                    f"Ray did not start in {attempt} attempts: {first_line(error)}; see the log files in its temporary "
                    "folder (RAY_TMPDIR)"
                ) from error
            log(f"Ray did not start: {first_line(error)}; retrying (attempt {attempt + 1} of {START_ATTEMPTS})")
    raise AssertionError("unreachable")


def _kill_children(others: set[psutil.Process]) -> None:
    """Kill this process's descendants except `others`: Ray leaves the processes of a failed start running."""
    children = [child for child in psutil.Process().children(recursive=True) if child not in others]
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=10)


def _check_size(config: Config, where: str, log: Callable[[str], None]) -> None:
    """Check that the cluster can hold the run: as it is, or as large as its autoscaler can make it."""
    import ray

    limit, nodes = _autoscaler_limit(), placement.nodes_of_cluster()
    size = ray.cluster_resources() | limit
    resource_plan.check(config, size, where)
    if not limit:
        placement.check_nodes(config, nodes, where)
        return
    most = zip(("CPU", "GPU"), resource_plan.largest(config), strict=True)
    if more := [f"{n:g} {name}, of {size.get(name, 0.0):g}" for name, n in most if n > size.get(name, 0.0) + 1e-9]:
        log(f"at its largest the run would take {'; '.join(more)} in VLRM_CLUSTER_MAX: it will not grow so far")
    for line in placement.unlabelled(config, nodes, where):
        log(f"{line}; the autoscaler has to start one, so it needs a type of nodes with this label")


def _tell_wait(config: Config, free: Mapping[str, float], log: Callable[[str], None]) -> None:
    """Say that the run waits for what other work has taken of a cluster of fixed size: Ray lets actors wait in silence."""
    cpus, gpus = resource_plan.peak(config)
    lacking = [
        f"{needed:g} {name}, {free.get(name, 0.0):g} are free now"
        for name, needed in (("GPU", gpus), ("CPU", cpus))
        if needed > free.get(name, 0.0) + 1e-9
    ]
    if lacking:
        log(
            f"the run needs {'; '.join(lacking)}: waiting for other work to end, engines for up to "
            f"cluster.start_timeout={config.cluster.start_timeout} s, train workers for up to "
            f"train.start_timeout={config.train.start_timeout} s"
        )


def _autoscaler_limit() -> dict[str, float]:
    """Largest size of an autoscaling cluster, by VLRM_CLUSTER_MAX="CPU=64,GPU=8"; empty for a cluster of fixed size.

    Ray has a place for it in the state of the cluster, but no autoscaler of Ray 2.60 writes there.
    """
    limit = os.environ.get("VLRM_CLUSTER_MAX", "")
    try:
        pairs = [item.split("=") for item in limit.split(",") if item.strip()]
        found = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        found = {"": 0.0}
    if not found.keys() <= {"CPU", "GPU"}:
        raise UserError(
            f"VLRM_CLUSTER_MAX={limit!r} cannot be read; write CPU and GPU with numbers, as in 'CPU=64,GPU=8'"
        )
    return found
