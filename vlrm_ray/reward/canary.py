"""Proof that an engine holds the weights it was told to load."""

import json
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from vlrm_ray.engines import Completion, Request
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.model_folder import CARD

IMAGE = "canary.png"
QUESTION, RESPONSE = "What do you see?", "There is a red circle."
TOLERANCE = 1e-3


class WrongWeights(Exception):
    """An engine answers the canary with another score than the published folder's."""


def request(folder: str, wording: str) -> Request:
    """The request whose score tells which weights an engine holds."""
    return Request(FORMATS[wording].direct_prompt(QUESTION, RESPONSE), str(Path(folder, IMAGE)))


def check_canary(critic: ActorHandle[Any], version: int, folder: str, wording: str) -> float:
    """Load a version and compare the canary's score with the published one; returns how far it moved.

    Raises WrongWeights where they differ by more than `TOLERANCE`.
    """
    asked = [request(folder, wording)]
    before: Completion = ray.get(critic.score.remote(asked))[0]
    ray.get(critic.load.remote(version, folder))
    after: Completion = ray.get(critic.score.remote(asked))[0]
    published = json.loads(Path(folder, CARD).read_text())["canary"]
    gap = max(abs(after.yes - published["yes"]), abs(after.no - published["no"]))
    if gap > TOLERANCE:
        raise WrongWeights(f"version {version}: canary differs by {gap:.2g} from the published folder's score")
    return max(abs(after.yes - before.yes), abs(after.no - before.no))
