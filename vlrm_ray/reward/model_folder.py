"""Checks of a model folder that are possible before any engine loads it."""

import json
from pathlib import Path

from vlrm_ray.config import ASSETS, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.types import NO, YES

CARD = "vlrm_reward.json"
"""A published reward model's card: its prompt templates, its label tokens and how its reward is computed."""


def check_model(key: str, name: str) -> None:
    """Check that a local folder holds a usable model; a hub name is not checked.

    Args:
        key: configuration key, for the error message.
        name: value of that key: a folder, an `assets:` name or a hub name.

    Raises:
        UserError: if the folder has no readable config.json, no safetensors, or no single tokens for Yes and No.
    """
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
        raise UserError(f"{key}: {folder}/config.json cannot be read as JSON: {error}; restore the file") from None
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
                f"{key}: the tokenizer of {folder} has no single token for '{word}'; choose a model that has one"
            )
