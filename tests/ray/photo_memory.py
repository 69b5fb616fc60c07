"""Sends large photographs through one expert or engine, in a process of its own, and prints the memory that it takes.

    python photo_memory.py detector|reader|vllm|transformers FOLDER      prints MiB as JSON: {"start": 500, "peak": 900}

"start" is the memory after the models are loaded, "peak" the largest one from then on.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.ray.engine_answers import settings
from vlrm_ray.config import load
from vlrm_ray.engines import Request, Sampling
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, to_table
from vlrm_ray.types import Prompt


class Board:
    """A progress board that nobody reads."""

    def add(self, stage: str, rows: int, seconds: float) -> None:
        """Ignore the progress."""


def expert(kind: str, photos: list[str], folder: Path) -> Callable[[], object]:
    """A function that shows all photographs to an expert whose model is loaded."""
    from actors.experts import DetectorExpert, TextExpert

    experts, ledger = load(None).experts, Ledger(str(folder / f"run-{kind}"))
    table = to_table([Row(0, 1, Prompt(path, path, Path(path).name, "What do you see?"), "") for path in photos])
    if kind == "detector":
        detector = DetectorExpert(experts.detector, ledger, Board())
        assert detector.detector
        return lambda: detector(table)
    reader = TextExpert(experts.reader, ledger, Board())
    assert reader.paddle
    return lambda: reader(table)


def engine(kind: str, photos: list[str]) -> Callable[[], object]:
    """A function that asks an engine about all photographs."""
    if kind == "vllm":
        from actors.vllm_engine import VllmEngine

        generate = VllmEngine(settings(kind)).generate
    else:
        from actors.transformers_engine import TransformersEngine

        generate = TransformersEngine(settings(kind)).generate
    requests = [Request("What do you see?", path, seed=index) for index, path in enumerate(photos)]
    return lambda: generate(requests, Sampling(4))


def main(kind: str, folder: Path) -> None:
    """Load the model, process the photographs, and print the memory before and at the peak."""
    os.environ.update(WORKER_ENV | CPU_ENV)
    process, photos = psutil.Process(), sorted(map(str, folder.glob("*.jpg")))
    work = expert(kind, photos, folder) if kind in ("detector", "reader") else engine(kind, photos)
    start = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    work()
    print(json.dumps({"start": start >> 20, "peak": peak >> 20}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
