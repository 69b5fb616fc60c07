"""Speed and memory of training steps on one GPU; prints a line of JSON for each set of overrides.

Each set is measured in a process of its own, so that nothing of one is in the memory of the next.

python -m tests.gpu.train_speed MODEL [key=value,key=value ...] ...
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from jobs.benches.train_steps import Texts, made_up_pairs, measure_steps
from vlrm_ray.config import load
from vlrm_ray.store.ledger import Ledger

TEXTS = Texts(response=5, facts=30, pixels=672)
"""About 817 tokens an example with the embedded model's tokenizer, 576 of them of the image."""
STEPS = 4


def main(model: str, overrides: str) -> None:
    """Measure one set of overrides."""
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(f"{scratch}/run")
        made_up_pairs(ledger, 40, TEXTS, Path(scratch, "images"))
        config = load(None, ["train.workers=1", "train.gpus=1", "train.loader_workers=4", *overrides.split(",")])
        figures = measure_steps(config, ledger, model, STEPS)
    print(overrides, json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(sys.argv[1], sys.argv[2])
    for variant in sys.argv[2:] if len(sys.argv) > 3 else ():
        subprocess.run([sys.executable, "-m", "tests.gpu.train_speed", sys.argv[1], variant])
