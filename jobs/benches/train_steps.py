"""Measures the steps of the reward model's training in this process: one worker, no Ray, no checkpoints."""

import gc
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from vlrm_ray.config import Config
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.reward.training.examples import examples_of, examples_per_pair, global_batches
from vlrm_ray.reward.training.step_records import StepRecord
from vlrm_ray.reward.training.task import TrainTask
from vlrm_ray.reward.training.train_loop import Place, Totals, Worker
from vlrm_ray.reward.training.training_data import TrainingPair, TrainingSet, to_table
from vlrm_ray.store.ledger import Ledger


@dataclass(frozen=True)
class Texts:
    """How long the texts of the made-up pairs are.

    Attributes:
        response: sentences of a response.
        facts: facts in a critique's description.
        pixels: side of the images in pixels.
    """

    response: int
    facts: int
    pixels: int


def made_up_pairs(ledger: Ledger, count: int, texts: Texts, images: Path) -> None:
    """Commit pairs with noise as images to round 1 of a ledger: their lengths count here, not their meaning."""
    images.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    pairs = []
    for number in range(count):
        image = images / f"{number}.jpg"
        noise = generator.integers(0, 255, (84, 84, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((texts.pixels, texts.pixels)).save(image, quality=85)
        responses = [f"The circle is {color} and there is a sign left of it. " * texts.response for color in COLORS]
        critiques = [
            format_critique(", ".join([f"{color} circle top left"] * texts.facts), f"{color} {word}", word == "yes")
            for color, word in zip(COLORS, ("yes", "no"), strict=True)
        ]
        pairs.append(
            TrainingPair(
                f"pair-{number}",
                str(image),
                "",
                "What color is the circle?",
                responses[0],
                responses[1],
                critiques[0],
                critiques[1],
            )
        )
    ledger.put_part(1, 0, {"select": to_table(pairs, TrainingPair)}, {})


COLORS = ("red", "blue")


def measure_steps(config: Config, ledger: Ledger, model: str, steps: int) -> dict[str, float]:
    """Train some steps on the pairs of round 1; the first is left out of the figures.

    Returns:
        examples_per_second, tokens_per_second, mfu, memory_gb (peak of the device or the process), start_seconds,
        start_memory_gb (peak until the model is loaded), tokens_per_example (before anything is shared), wait_share,
        cpu_seconds_per_example and loss (of the last step).
    """
    device = torch.device("cuda", 0) if config.train.gpus else torch.device("cpu")
    backend = "cpu:gloo,cuda:nccl" if config.train.gpus else "gloo"
    with tempfile.TemporaryDirectory() as folder:  # the file serves as long as the process group
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            start = time.perf_counter()
            worker = Worker(TrainTask(config, 1, model, ledger), TrainingSet(config, ledger, 1), Place(0, 1, device))
            figures = {"start_seconds": time.perf_counter() - start, "start_memory_gb": worker.peak_memory() / 1e9}
            return figures | _train(worker, config, steps)
        finally:
            dist.destroy_process_group()
            gc.collect()
            if config.train.gpus:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def _train(worker: Worker, config: Config, steps: int) -> dict[str, float]:
    count = len(worker.data)
    batches = [batch for epoch in range(steps) for batch in global_batches(range(count), worker.per_batch, epoch, 0)]
    batches = [batch for batch in batches if len(batch) == worker.per_batch][: steps + 1]
    worker.items = worker.data.read(range(count))
    records: list[StepRecord] = []
    totals, waited, cpu = Totals(), 0.0, 0.0
    for data in worker.loader(batches):
        before = worker.loader.waited
        records.append(worker.train_step(0, data, before - waited, totals))
        waited = before
        if len(records) == 1:
            cpu = time.process_time()
    measured = records[1:]
    per_step = worker.per_batch * examples_per_pair(config)
    seconds = statistics.median(record.seconds for record in measured)
    return {
        "examples_per_second": per_step / seconds,
        "tokens_per_second": statistics.median(record.tokens for record in measured) / seconds,
        "mfu": statistics.median(record.mfu or 0.0 for record in measured),
        "memory_gb": worker.peak_memory() / 1e9,
        "tokens_per_example": _tokens_per_example(worker, config),
        "wait_share": sum(record.wait_seconds for record in measured) / sum(record.seconds for record in measured),
        "cpu_seconds_per_example": (time.process_time() - cpu) / (per_step * len(measured)),
        "loss": records[-1].loss,
    }


def _tokens_per_example(worker: Worker, config: Config) -> float:
    pair = worker.items[0]
    collator: Any = worker.collator
    image = collator.load(pair.image)
    examples = examples_of(pair, config)
    return sum(len(collator.sequence(example, image)[0]) for example in examples) / len(examples)
