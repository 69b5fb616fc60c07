"""Canary check: confirms that an engine has really loaded the weights of a published version.

Publishing stores the score of one fixed request in the model card. After loading, an engine must reproduce it, on the
node where it serves:

    |log(p(Yes) / p(No)) of the engine - log(p(Yes) / p(No)) in the card| <= TOLERANCES[dtype]

where the dtype is the coarser one of the engine's and of that in which the card's score was computed. Where this
tolerance is wide, the score must also have moved, if it was clearly another one before loading.
"""

import json
from pathlib import Path

from vlrm_ray.engines import Completion, Request
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward.model_folder import CARD
from vlrm_ray.reward.temperature_scaling import log_odds

IMAGE = "canary.png"
"""File name of the canary's image in a published folder."""
QUESTION, RESPONSE = "What do you see?", "There is a red circle."
TOLERANCES = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.5}
"""Largest accepted difference of the log-odds, by the engine's data type.

Two libraries or devices round differently. Logits of 16 to 32 have steps of 0.016 in float16 and of 0.125 in bfloat16.
"""


UNMOVED = 0.05
"""Share of the tolerance below which the log-odds have not moved: the same weights on the same node give the same ones."""


class WrongWeights(Exception):
    """An engine's canary score differs from the one in the published folder."""


def canary_request(folder: str, critique_format: str) -> Request:
    """The canary of a published folder; `critique_format` is the format's name."""
    return Request(FORMATS[critique_format].direct_prompt(QUESTION, RESPONSE), str(Path(folder, IMAGE)))


def check_canary(
    score: Completion, folder: str, version: int, dtype: str, engine: str, before: Completion | None = None
) -> None:
    """Compare an engine's score of the canary with the published one.

    Args:
        score: the engine's answer to `canary_request`.
        folder: local folder with the version's files.
        version: number of the version, for the message.
        dtype: data type of the engine.
        engine: name of the engine's actor and its node, for the message.
        before: the engine's answer before it loaded the version; None if it is not known, or the engine had the version already.

    Raises:
        WrongWeights: the log-odds differ by more than the tolerance, or have not moved, or the engine refused the canary.
    """
    if score.refused:
        raise WrongWeights(f"{engine} refused the canary of version {version}: {score.refused}")
    card = json.loads(Path(folder, CARD).read_text())["canary"]
    tolerance = max(TOLERANCES[dtype], TOLERANCES[card.get("dtype", "float32")])
    published, found = log_odds(card["yes"], card["no"]), log_odds(score.yes, score.no)
    old = published if before is None or before.refused else log_odds(before.yes, before.no)
    unmoved = abs(found - old) < UNMOVED * tolerance and abs(old - published) > tolerance / 2
    if unmoved or abs(found - published) > tolerance:
        limit = f"the largest accepted difference for {dtype} is {tolerance:g}"
        raise WrongWeights(
            f"{engine} has not loaded version {version}: its log-odds of the canary are {found:.4f} (p(Yes) "
            f"{score.yes:.4g}, p(No) {score.no:.4g}), and {published:.4f} in {folder}/{CARD} (p(Yes) {card['yes']:.4g}, "
            f"p(No) {card['no']:.4g}); {f'before loading they were {old:.4f}' if unmoved else limit}"
        )
