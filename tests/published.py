"""A published reward model made of the shipped tiny model, without training it."""

import json
from functools import cache
from pathlib import Path

from vlrm_ray import torchvision_shim
from vlrm_ray.config import asset_path
from vlrm_ray.engines import PlainText
from vlrm_ray.preferences.critique import FORMATS

QUESTION = "What do you see?"


@cache
def plain_text() -> PlainText:
    """Makes words of the tiny model's control tokens."""
    torchvision_shim.install()
    from transformers import AutoProcessor

    return PlainText.of_processor(AutoProcessor.from_pretrained(asset_path("assets:vlm")))


def publish(folder: Path, temperature: float | None = None, critique_format: str = "compact") -> Path:
    """Make the folder of a version: links to the model's files, a card and, if a temperature is given, a calibration."""
    folder.mkdir(parents=True)
    for file in Path(asset_path("assets:vlm")).iterdir():
        (folder / file.name).symlink_to(file)
    asked = FORMATS[critique_format]
    card = {
        "critique_format": critique_format,
        "ask": asked.prompt_template,
        "ask_direct": asked.direct_prompt_template,
        "control_tokens": plain_text().tokens,
    }
    (folder / "vlrm_reward.json").write_text(json.dumps(card))
    if temperature is not None:
        (folder / "vlrm_calibration.json").write_text(json.dumps({"temperature": temperature}))
    return folder
