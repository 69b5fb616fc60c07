"""Speed and memory of training steps on one GPU; prints a line of JSON for each set of overrides.

python -m tests.gpu.train_speed MODEL [key=value,key=value ...] ...
"""

import json
import sys
import tempfile
from pathlib import Path

from jobs.benches.train_steps import Texts, made_up_pairs, measure_steps
from vlrm_ray.config import load
from vlrm_ray.store.ledger import Ledger

TEXTS = Texts(response=5, facts=30, pixels=672)
"""About 817 tokens an example with the embedded model's tokenizer, 576 of them of the image."""
STEPS = 4


def main(model: str, variants: list[str]) -> None:
    """Measure every variant."""
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(f"{scratch}/run")
        made_up_pairs(ledger, 40, TEXTS, Path(scratch, "images"))
        for variant in variants:
            overrides = ["train.workers=1", "train.gpus=1", "train.loader_workers=4", *variant.split(",")]
            try:
                figures = measure_steps(load(None, overrides), ledger, model, STEPS)
            except Exception as error:  # out of memory, for example: the other variants are still of interest
                print(variant, f"{type(error).__name__}: {str(error)[:300]}", flush=True)
                continue
            print(variant, json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
