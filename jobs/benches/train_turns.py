"""A process that trains on demand with today's loop, as `stage_one_loop` does with the old one.

Each of its input's lines names a variant beside the numbers of pairs. A variant is a model of its own.
"""

import json
import os
import sys
import tempfile
import time

import torch
import torch.distributed as dist

from vlrm_ray.config import Config, load
from vlrm_ray.reward.training.task import TrainTask
from vlrm_ray.reward.training.train_loop import Place, Totals, Worker
from vlrm_ray.reward.training.training_data import TrainingSet
from vlrm_ray.store.ledger import Ledger

VARIANTS = {
    "plain": (False, False, False),
    "image_once": (False, False, True),
    "packing": (True, False, False),
    "packing_and_image_once": (True, False, True),
    "all": (True, True, True),
}
"""Packing, shared prefix, and whether an image goes through the vision tower once for all sequences of its pair."""


def main() -> None:
    """Answer lines until the input ends."""
    order = json.loads(sys.stdin.readline())
    ledger = Ledger(order["ledger"])
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        workers: dict[str, Worker] = {}
        print("ready", flush=True)
        for line in sys.stdin:
            variant, numbers = json.loads(line)
            if variant not in workers:
                workers[variant] = _worker(variant, load(None, order["overrides"]), order["model"], ledger)
            print(json.dumps(_train(workers[variant], numbers)), flush=True)
    os._exit(0)


def _worker(variant: str, config: Config, model: str, ledger: Ledger) -> Worker:
    packing, shared_prefix, image_once = VARIANTS[variant]
    train = config.train.model_copy(update={"packing": packing, "shared_prefix": shared_prefix})
    task = TrainTask(config.model_copy(update={"train": train}), 1, model, ledger)
    worker = Worker(task, TrainingSet(config, ledger, 1), Place(0, 1, torch.device("cpu")))
    worker.items = worker.data.read(range(len(worker.data)))
    if not image_once:
        worker.learner.takes_features = False
    return worker


def _train(worker: Worker, numbers: list[int]) -> list[float]:
    """Seconds and CPU seconds of the steps on some pairs; the loader's threads start and end in them."""
    size = worker.per_batch
    batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
    start, cpu, totals = time.perf_counter(), time.process_time(), Totals()
    for data in worker.loader(batches):
        worker.train_step(0, data, 0.0, totals)
    return [time.perf_counter() - start, time.process_time() - cpu]


if __name__ == "__main__":
    main()
