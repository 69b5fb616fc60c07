"""How sure a box is: the probability that its class or text is right, by the calibrations of a run's experts."""

from collections.abc import Callable, Mapping
from typing import Any

from vlrm_ray.config import Experts
from vlrm_ray.errors import UserError
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.types import Detection, Word

Confidence = Callable[[Detection | Word], float | None]
"""Probability that a box is right; None if its expert is not calibrated."""


def unknown(box: Detection | Word) -> float | None:
    """The confidence where no calibration is known."""
    return None


def confidence_by(calibrations: Calibrations) -> Confidence:
    """The confidence by some calibrations."""

    def confidence(box: Detection | Word) -> float | None:
        if isinstance(box, Word):
            return calibrations.word_probability(box) if calibrations.reader else None
        return calibrations.detection_probability(box) if calibrations.detector else None

    return confidence


def confidence_of_run(config: Mapping[str, Any]) -> Confidence:
    """The confidence by the calibrations that belong to a run's models; unknown if these cannot be read here."""
    try:
        return confidence_by(Verifier.from_config(Experts.model_validate(config["experts"])).calibrations)
    except (UserError, OSError, ValueError, KeyError):
        return unknown
