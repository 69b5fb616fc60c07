"""Trains a model for some steps, publishes it, loads it in vLLM and checks its canary; prints a line of JSON.

python -m tests.gpu.published MODEL [key=value,key=value ...]

The engine starts with MODEL and loads the published weights over it, as the critics do after each round.
"""

import asyncio
import gc
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from actors.engine_hosts import EngineHost
from jobs.benches.train_steps import Texts, made_up_pairs
from vlrm_ray.config import Config, load
from vlrm_ray.engines import EngineSettings
from vlrm_ray.reward.canary import canary_request
from vlrm_ray.reward.model_folder import CARD
from vlrm_ray.reward.temperature_scaling import log_odds
from vlrm_ray.reward.training.examples import global_batches
from vlrm_ray.reward.training.task import TrainTask
from vlrm_ray.reward.training.train_loop import Place, Totals, Worker
from vlrm_ray.reward.training.training_data import TrainingSet
from vlrm_ray.store.ledger import Ledger

STEPS = 3
DEFAULTS = (
    "train.workers=1,train.gpus=1,train.loader_workers=4,train.batch=40,train.lr=1e-3,critic.engine.dtype=bfloat16"
)
SETTINGS = EngineSettings("vllm", "", "bfloat16", 1024, 64, 512, 0.4, 1.0, 1, reproducible=False)


def train_and_write(config: Config, model: str, scratch: Path) -> tuple[Path, dict[str, float]]:
    """Train in this process and write the folder to publish."""
    ledger = Ledger(f"{scratch}/run")
    made_up_pairs(ledger, 40, Texts(response=5, facts=30, pixels=672), scratch / "images")
    device = torch.device("cuda", 0) if config.train.gpus else torch.device("cpu")
    backend = "cpu:gloo,cuda:nccl" if config.train.gpus else "gloo"
    dist.init_process_group(backend, init_method=f"file://{scratch}/store", rank=0, world_size=1)
    worker = Worker(TrainTask(config, 1, model, ledger), TrainingSet(config, ledger, 1), Place(0, 1, device))
    numbers = range(len(worker.data))
    worker.items = worker.data.read(numbers)
    batches = [batch for epoch in range(STEPS) for batch in global_batches(numbers, worker.per_batch, epoch, 0)][:STEPS]
    totals = Totals()
    for data in worker.loader(batches):
        worker.train_step(0, data, 0.0, totals)
    start = time.perf_counter()
    folder = worker._write_model({"loss": totals.losses[-1], "examples": 40})
    figures = {"write_seconds": time.perf_counter() - start, "train_memory_gb": worker.peak_memory() / 1e9}
    dist.destroy_process_group()
    del worker, data
    gc.collect()
    if config.train.gpus:
        torch.cuda.empty_cache()
    return folder, figures


async def serve(config: Config, model: str, folder: Path) -> dict[str, float]:
    """Start the engine with `model`, load the folder over it, then start another engine with the folder."""
    settings = replace(SETTINGS, model=model, dtype=config.critic.engine.dtype, gpus=config.train.gpus)
    card = json.loads((folder / CARD).read_text())["canary"]
    start = time.perf_counter()
    host = EngineHost("critic-0", settings)
    figures = {"start_seconds": time.perf_counter() - start, "published": log_odds(card["yes"], card["no"])}
    assert not host.problem, host.problem
    (before,) = await host.score([canary_request(str(folder), config.critic.format)])
    start = time.perf_counter()
    await host.load(str(folder), None, config.critic.format)  # raises WrongWeights if the canary disagrees
    figures |= {"load_seconds": time.perf_counter() - start, "before_loading": log_odds(before.yes, before.no)}
    (after,) = await host.score([canary_request(str(folder), config.critic.format)])
    figures["after_loading"] = log_odds(after.yes, after.no)
    await host.close()
    print(json.dumps(figures), flush=True)
    start = time.perf_counter()
    host = EngineHost("critic-0", replace(settings, model=str(folder)))
    figures["second_start_seconds"] = time.perf_counter() - start
    (started,) = await host.score([canary_request(str(folder), config.critic.format)])
    figures["started_with_it"] = log_odds(started.yes, started.no)
    await host.close()
    return figures


def main(model: str, overrides: str) -> None:
    """Train, publish, load and print."""
    config = load(None, [*DEFAULTS.split(","), *filter(None, overrides.split(","))])
    with tempfile.TemporaryDirectory() as scratch:
        folder, figures = train_and_write(config, model, Path(scratch))
        figures |= asyncio.run(serve(config, model, folder))
        figures["weights_gb"] = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e9
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
