"""Memory of a train worker at the start and while it publishes, on CPU, with a model of about 500 MB.

Each rank is a process of its own. The peak at the start is the kernel's `VmHWM`: everything that was resident, imported
libraries and mapped pages of the weight files included. `anonymous` is the peak of `RssAnon`, the part that the kernel
cannot drop, sampled every 5 ms.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from vlrm_ray.config import Train, asset_path
from vlrm_ray.pipeline.background import repeated

RANKS = (2, 4)
SHARD_BYTES = 64 << 20
"""Bytes of a published weight file in the measurement."""
GB = 1e9


@dataclass
class Memory:
    """Memory of one rank, in bytes.

    Attributes:
        start: peak of resident memory until the weights are loaded.
        anonymous: the same of memory that is not mapped from files.
        imported: resident memory after the imports, before the model is built.
        publish: growth of anonymous memory while weights are published.
        model: bytes of the whole model.
        block: bytes of its largest unit.
    """

    start: int
    anonymous: int
    imported: int
    publish: int
    model: int
    block: int


class Holder(nn.Module):
    """Holds a model, in place of the module that computes the losses."""

    def __init__(self, model: Any) -> None:
        """Hold a model."""
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        """Run the model."""
        return self.model(**inputs)


def measure(ranks: tuple[int, ...] = RANKS) -> dict[str, Any]:
    """Measure the start on several numbers of ranks.

    Returns:
        `start_peak_over_share`: {ranks: GB of the largest rank's peak above model / ranks + largest block}, of which at
        most 1 is wanted; `anonymous_over_share` the same without mapped files; `publish_gb`: {ranks: GB of growth}; and
        the sizes.
    """
    over, anonymous, published = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="vlrm-bench-") as name:
        folder = Path(name)
        spawn(_write_model, (folder / "model",), nprocs=1)
        for world in ranks:
            out = folder / str(world)
            out.mkdir()
            spawn(_rank, (world, folder / "model", out), nprocs=world)
            memory = [Memory(**json.loads((out / f"{rank}.json").read_text())) for rank in range(world)]
            share = memory[0].model / world + memory[0].block
            over[world] = round((max(m.start for m in memory) - share) / GB, 3)
            anonymous[world] = round((max(m.anonymous for m in memory) - share) / GB, 3)
            published[world] = round(max(m.publish for m in memory) / GB, 3)
    return {
        "model_gb": round(memory[0].model / GB, 3),
        "largest_block_gb": round(memory[0].block / GB, 3),
        "imports_gb": round(max(m.imported for m in memory) / GB, 3),
        "start_peak_over_share": over,
        "anonymous_over_share": anonymous,
        "publish_gb": published,
        "publish_file_gb": round(SHARD_BYTES / GB, 3),
    }


def _write_model(_: int, folder: Path) -> None:
    """Write a model like the shipped one, with random weights of about 500 MB in several files."""
    from vlrm_ray import torchvision_shim

    torchvision_shim.install()
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(asset_path("assets:vlm"))
    text = {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 32, "num_key_value_heads": 32,
            "num_hidden_layers": 9, "layer_types": ["full_attention"] * 9}  # fmt: skip
    for key, value in text.items():
        setattr(config.text_config, key, value)
    config.vision_config.out_hidden_size = 1024
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder, max_shard_size="100MB")


def _rank(rank: int, world: int, model_folder: Path, out: Path) -> None:
    """Start one rank as the train loop does, and write its memory to `<rank>.json`."""
    from vlrm_ray.reward.training import sharded_model
    from vlrm_ray.reward.weight_writing import write_weights

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=world)
    device, imported = torch.device("cpu"), _status("VmRSS")
    with _peak() as starting:
        module = Holder(sharded_model.meta_model(str(model_folder), Train(), device))
        count = sharded_model.parameter_count(module.model)
        block = sharded_model.largest_block(module.model)
        sharded_model.shard(module, device, world)
        sharded_model.load_weights(module.model, str(model_folder), device, 0)
    start, before = _status("VmHWM"), _status("RssAnon")
    with _peak() as publishing:
        write_weights(module.model, out, torch.float32, SHARD_BYTES, rank, world)
    memory = Memory(start, starting[0], imported, publishing[0] - before, 4 * count, 4 * block)
    (out / f"{rank}.json").write_text(json.dumps(asdict(memory)))
    dist.barrier()
    dist.destroy_process_group()


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Context manager: a list whose only element becomes the peak of anonymous memory."""
    peak = [_status("RssAnon")]

    def read() -> None:
        peak[0] = max(peak[0], _status("RssAnon"))

    with repeated(read, 0.005, "reading the memory"):
        yield peak


if __name__ == "__main__":
    print(json.dumps(measure()))
