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
reward_model.py         a published model in this process
score_files.py          scores of a file of rows, in parts, for jobs/score.py
transformers_engine.py  adapter for generation with transformers
missing_judgements.py   asks for the judgement of a critique that has none
"""

from typing import TYPE_CHECKING, Any

from vlrm_ray.reward.scoring import Score

if TYPE_CHECKING:
    from vlrm_ray.reward.reward_model import RewardModel

__all__ = ["RewardModel", "Score"]


def __getattr__(name: str) -> Any:
    """Import `RewardModel` when it is first used: this package's other modules do without it."""
    if name == "RewardModel":
        from vlrm_ray.reward.reward_model import RewardModel

        return RewardModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
