"""Canary check: confirms that an engine has really loaded the weights of a published version.

Publishing stores the score of one fixed request in the model card. After loading, the engine must reproduce it.
"""

import json
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from vlrm_ray.engines import Completion, Request
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.model_folder import CARD

IMAGE = "canary.png"
"""File name of the canary's image in a published folder."""
QUESTION, RESPONSE = "What do you see?", "There is a red circle."
TOLERANCE = 1e-3
"""Largest accepted difference of p(Yes) or p(No) between the engine and the published score."""


class WrongWeights(Exception):
    """An engine's canary score differs from the one in the published folder."""


def canary_request(folder: str, critique_format: str) -> Request:
    """The canary of a published folder; `critique_format` is the format's name."""
    return Request(FORMATS[critique_format].direct_prompt(QUESTION, RESPONSE), str(Path(folder, IMAGE)))


def check_canary(critic: ActorHandle[Any], version: int, folder: str, critique_format: str) -> float:
    """Load a version into a critic and compare its canary score with the published one.

    Args:
        critic: actor that hosts an engine.
        version: number of the version.
        folder: local folder with the version's files.
        critique_format: name of the format the model was trained with.

    Returns:
        The larger change of p(Yes) or p(No) that loading caused.

    Raises:
        WrongWeights: if the score differs from the published one by more than `TOLERANCE`.
    """
    requests = [canary_request(folder, critique_format)]
    before: Completion = ray.get(critic.score.remote(requests))[0]
    ray.get(critic.load.remote(version, folder))
    after: Completion = ray.get(critic.score.remote(requests))[0]
    published = json.loads(Path(folder, CARD).read_text())["canary"]
    gap = max(abs(after.yes - published["yes"]), abs(after.no - published["no"]))
    if gap > TOLERANCE:
        raise WrongWeights(
            f"version {version}: the canary score differs by {gap:.2g} from the one in {folder}/{CARD} "
            f"(allowed: {TOLERANCE:g}); the engine has not loaded these weights"
        )
    return max(abs(after.yes - before.yes), abs(after.no - before.no))
