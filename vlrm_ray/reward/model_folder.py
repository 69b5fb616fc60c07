"""What can be told of a model's folder before anything loads it."""

import json
from pathlib import Path

from vlrm_ray.config import ASSETS, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.types import NO, YES

CARD = "vlrm_reward.json"
"""A published reward model's card: how to ask it and how to read its reward."""


def check_model(key: str, name: str) -> None:
    """A local folder must hold a model with labels; a hub name is left to the engine. Raises UserError."""
    folder = Path(asset_path(name))
    local = name.startswith((ASSETS, ".", "/", "~")) or folder.exists()
    if not local:
        return
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{key}: {folder} is not a Hugging Face model folder (no config.json); give a folder or a hub name"
        )
    try:
        json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: {folder}/config.json is not readable: {error}") from None
    if not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{key}: {folder} holds no .safetensors weights; convert them first (pickled weights are not loaded)"
        )
    if (folder / "tokenizer.json").is_file():
        _check_labels(key, folder)


def _check_labels(key: str, folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for word in (YES, NO):
        if not any(len(tokenizer.encode(text, add_special_tokens=False).ids) == 1 for text in (word, f" {word}")):
            raise UserError(
                f"{key}: the tokenizer of {folder} has no single token for '{word}'; choose a model that does"
            )
