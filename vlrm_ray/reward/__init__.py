"""The generative reward model: training, publishing, calibration, and scoring responses with it.

    from vlrm_ray.reward import RewardModel

    scores = RewardModel.load("runs/scenes/versions/0003").score(images, questions, responses)

training/               one Ray Train run of a round
publish.py              writes the trained model as a Hugging Face folder with a card
weight_writing.py       its weights, tensor by tensor
model_folder.py         checks a model folder before anything loads it
canary.py               checks that an engine has loaded a published version
temperature_scaling.py  calibrates the reward with one parameter
scoring.py              how the model is asked about a response, and how its answers become a score
reward_model.py         a published model in this process, or on a server of vLLM
served_engine.py        adapter for vLLM's server
loop_thread.py          an event loop that callers of any thread and any other loop share
score_files.py          scores of a file of rows, in parts, for jobs/score.py
transformers_engine.py  adapter for generation with transformers
missing_judgements.py   asks for the judgement of a critique that has none
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlrm_ray.reward.reward_model import RewardModel
    from vlrm_ray.reward.scoring import Score

__all__ = ["RewardModel", "Score"]
_MODULES = {"RewardModel": "reward_model", "Score": "scoring"}


def __getattr__(name: str) -> Any:
    """Import a class when it is first used: this package's other modules do without it."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
