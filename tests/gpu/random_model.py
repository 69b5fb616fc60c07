"""Writes a model folder of real size with random weights and the tokenizer of the embedded model.

    python -m tests.gpu.random_model OUT 3b|7b

Speed and memory do not depend on what the weights are. The tokenizer is the small one, so texts have more tokens than
with Qwen's; the output layer has Qwen's size.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from vlrm_ray.config import asset_path

SHAPES: dict[str, dict[str, Any]] = {
    "3b": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
           "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
}  # fmt: skip
"""The language models of Qwen2.5-VL."""
VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
"""The vision tower of Qwen2.5-VL."""


def write(folder: Path, shape: str) -> None:
    """Write the folder, if it is not there."""
    if list(folder.glob("*.safetensors")):
        return
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(asset_path("assets:vlm"))
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in ("config.json", "vlrm_reward.json"):
            shutil.copy(file, folder)
    _write_config(source, folder, SHAPES[shape])
    start = time.perf_counter()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{folder}: {count / 1e9:.2f}e9 parameters in {time.perf_counter() - start:.0f} s", flush=True)


def _write_config(source: Path, folder: Path, shape: dict[str, Any]) -> None:
    config = json.loads((source / "config.json").read_text())
    layers = shape["num_hidden_layers"]
    config["text_config"] |= shape | {
        "layer_types": ["full_attention"] * layers,
        "max_window_layers": layers,
        "max_position_embeddings": 32768,
        "rope_parameters": {"mrope_section": [16, 24, 24], "rope_theta": 1e6, "rope_type": "default"},
    }
    config["vision_config"] |= VISION | {"out_hidden_size": shape["hidden_size"]}
    config |= {"tie_word_embeddings": shape["tie_word_embeddings"], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "processor_config.json").read_text())
    for name in ("image_processor", "video_processor"):
        processor[name]["patch_size"] = VISION["patch_size"]
    processor["image_processor"]["size"] = {"shortest_edge": 56 * 56, "longest_edge": 12845056}
    (folder / "processor_config.json").write_text(json.dumps(processor))


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
