"""Clusters that tests start as an operator does, with `ray start`, and a run that joins one beside another run."""

import io
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ray.programs import ENVIRONMENT, ROOT, TIMEOUT, kill, started_program
from tests.s3_server import S3Server
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD

SMALL_ITERATE = str(Path(__file__).with_name("small_iterate.py"))
PORTS = ("port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
         "metrics-export-port", "ray-client-server-port")  # fmt: skip
IMAGES, QUESTIONS = 8, ("Describe the image.", "What do you see?", "How many circles are there?")
RUN = ("rounds=1", f"prompts.per_round={IMAGES * len(QUESTIONS)}", "part_rows=12", "evaluation.pairs=0",
       "policy.engine.kind=transformers", "critic.engine.kind=transformers", "critic.engine.actors=1", "train.epochs=1",
       "selection.margin=0", "cluster.dashboard=false")  # fmt: skip
"""Settings of a small run on the embedded scenes."""
SMALL = (*RUN, "policy.engine.cpus=0.6", "critic.engine.cpus=0.6")
"""Settings of a small run on the images of `fill`. On a cluster with a head of one CPU, both engines do not fit on the head."""


def free_ports(count: int) -> list[int]:
    """Ports that no program uses, above those that Ray gives to its workers."""
    listeners = []
    for port in range(21_000 + secrets.randbelow(8_000), 60_000):
        with socket.socket() as listener:
            try:
                listener.bind(("0.0.0.0", port))
            except OSError:
                continue
        listeners.append(port)
        if len(listeners) == count:
            return listeners
    raise AssertionError("no free ports")


@contextmanager
def head_node(folder: Path, **environment: str) -> Iterator[str]:
    """A cluster of one node with four logical CPUs; yields its address."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = ["start", "--head", "--block", "--include-dashboard=false", "--num-cpus=4", f"--temp-dir={folder}",
               "--object-store-memory=200000000", "--min-worker-port=0", "--max-worker-port=0",
               *(f"--{name}={port}" for name, port in ports.items())]  # fmt: skip
    variables = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), **environment}
    ray = Path(sys.executable).with_name("ray")
    with open(folder / "start.log", "w") as log:
        process = subprocess.Popen(
            [str(ray), *command], env=variables, stdout=log, stderr=log, text=True, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in (text := (folder / "start.log").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield f"127.0.0.1:{ports['port']}"
    finally:
        kill(process)


def fill(server: S3Server) -> None:
    """Store images in a bucket, and a file `data/prompts.jsonl` with three questions about each."""
    lines = []
    for index in range(IMAGES):
        image = io.BytesIO()
        paint(UNBIASED_WORLD.sample(900 + index)).image.save(image, "PNG")
        server.put(f"data/{index:02d}.png", image.getvalue())
        lines += [json.dumps({"image": f"{index:02d}.png", "question": question}) for question in QUESTIONS]
    server.put("data/prompts.jsonl", "\n".join(lines).encode())


@dataclass(frozen=True)
class SideBySide:
    """Two runs that used one cluster at the same time.

    Attributes:
        folder: holds the runs' folders.
        done: how the program of each run ended, by the name of the run.
    """

    folder: Path
    done: dict[str, subprocess.CompletedProcess[str]]


def side_by_side(folder: Path, ray_folder: Path, prompts: str) -> SideBySide:
    """Two runs with other seeds: `first` on the images of `fill`, `second` on the embedded scenes."""
    environment = {"RAY_AUTH_MODE": "disabled", "VLRM_CACHE": str(folder / "cache")}
    with head_node(ray_folder, **environment) as address:
        common = (f"folder={folder}", f"cluster.address={address}")
        first, second = (*SMALL, f"prompts.source={prompts}", "name=first"), (*RUN, "name=second", "seed=2")
        with (
            started_program(SMALL_ITERATE, *first, *common, **environment) as one,
            started_program(SMALL_ITERATE, *second, *common, **environment) as other,
        ):
            outputs = [process.communicate(timeout=TIMEOUT) for process in (one, other)]
    done = [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip((one, other), outputs, strict=True)
    ]
    return SideBySide(folder, dict(zip(("first", "second"), done, strict=True)))
