"""The training loop of stage one, for comparison: a process that trains on demand, with the code of commit 9e8c681.

Run by `jobs/benches/train.py` with a checkout of that commit in front on `PYTHONPATH`. It reads a line of JSON
(`{"pairs": ..., "model": ..., "overrides": ...}`), and then lines with numbers of pairs, each of which it answers with
the seconds of the steps on them. It gives the loop what it asks of Ray Train: to be the only worker.
"""

import importlib
import json
import os
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any


def main() -> None:
    """Answer lines until the input ends."""
    import ray.train
    import ray.train.torch  # the loop uses it as an attribute
    import torch
    import torch.distributed as dist

    loop, old = importlib.import_module("vlrm_ray.reward.loop"), importlib.import_module("vlrm_ray.reward.examples")
    task, config = importlib.import_module("vlrm_ray.reward.task"), importlib.import_module("vlrm_ray.config")
    context: Any = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    ray.train.get_context = lambda: context
    ray.train.torch.get_device = lambda: torch.device("cpu")
    order = json.loads(sys.stdin.readline())
    settings = config.load(None, order["overrides"])
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        examples = [old.examples_of([_row(pair)], settings) for pair in order["pairs"]]
        every = [example for of_pair in examples for example in of_pair]
        worker = loop.Worker(task.Task(settings, 1, 1, order["model"], None), every)
        print("ready", flush=True)
        for line in sys.stdin:
            chosen = [example for number in json.loads(line) for example in examples[number]]
            start, cpu = time.perf_counter(), time.process_time()
            for first in range(0, len(chosen), settings.train.batch):
                worker._train_step(chosen[first : first + settings.train.batch])
            print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]), flush=True)
    os._exit(0)  # the process group needs no goodbye


def _row(pair: dict[str, str]) -> Any:
    """A pair in the form of the old rows."""
    prompt = SimpleNamespace(question=pair["question"], image=pair["image"])
    return SimpleNamespace(prompt=prompt, selected=[SimpleNamespace(**pair)])


if __name__ == "__main__":
    main()
