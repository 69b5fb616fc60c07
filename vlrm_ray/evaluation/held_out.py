"""Evaluates a reward model on verified pairs about images that it was not trained on.

The labels are the experts' verdicts, as in training: a metric here says how well the model reproduces them on new images, not
how often the experts are right. The same pairs are judged after each round.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

from vlrm_ray.engines import Request
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.clusters import clustered_share, repeated
from vlrm_ray.evaluation.evaluator import Evaluated, JudgeFn
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.evaluation.pairs import (
    CritiquePair,
    ask_once,
    by_length,
    calibrated,
    in_pairs,
    is_judged,
    labels,
    of_responses,
    pointwise,
    stored,
    temperature_of,
    undecided,
)
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import CritiqueFormat, parse_critique, prefers_chosen

ACCURACY = "held_out_pair_accuracy"
"""Name of the main metric."""
LEAST_PAIRS = 50
"""Fewest judged pairs whose temperature is published with the model."""
SAMPLES = 24
"""Pairs whose critiques the report shows in full."""


@dataclass(frozen=True)
class HeldOutPair:
    """A verified pair that is not trained on.

    Attributes:
        pair_id: id of the pair.
        image: URI or local path of the image.
        sha256: sha256 of the image file.
        question: the question.
        chosen: the response without a contradicted claim.
        rejected: the response with one.
    """

    pair_id: str
    image: str
    sha256: str
    question: str
    chosen: str
    rejected: str


class HeldOutPairs:
    """Implements `vlrm_ray.evaluation.evaluator.Evaluator` for pairs of a run."""

    title, headline = "held-out pairs", (ACCURACY, f"blind_{ACCURACY}")

    def __init__(self, pairs: Sequence[HeldOutPair], critique_format: CritiqueFormat) -> None:
        """Judge `pairs` in the format that the model is trained on."""
        self.pairs, self.critique_format = pairs, critique_format
        self.images = repeated([pair.sha256 for pair in pairs])

    def critique_count(self) -> int:
        """See `Evaluator.critique_count`: each response is judged with and without the image."""
        return len(dict.fromkeys(self._requests()))

    def evaluate(self, judge: JudgeFn) -> Evaluated:
        """Measure accuracy, also without the image, calibration, and baselines; no pair gives metrics with N = 0.

        A pair with a response that was not judged counts as wrong, and is left out of what is measured of single responses.
        """
        pairs = in_pairs(ask_once(judge, self._requests()))
        sighted, blind = pairs[: len(self.pairs)], pairs[len(self.pairs) :]
        judged = [(pair, found) for pair, found in zip(self.pairs, sighted, strict=True) if is_judged(found)]
        critiques, rewards = [found for _, found in judged], _calibrated_rewards(judged)
        temperature = temperature_of(critiques)
        details: dict[str, Any] = {
            **stored(ACCURACY, [prefers_chosen(*found) for found in sighted], self.images),
            "samples": self._samples(sighted),
        }
        if judged:
            bins = metrics.reliability(rewards, labels(critiques))
            details |= {"reliability": bins, "temperature": temperature}
        calibration = {"temperature": temperature, "n": 2 * len(judged), "split": "held_out"}
        enough = len(judged) >= LEAST_PAIRS
        return Evaluated(self._measure(sighted, blind, rewards), details, calibration if enough else {})

    def _requests(self) -> list[Request]:
        """Both responses of all pairs with the image, then without it."""
        return [
            Request(self.critique_format.prompt(pair.question, response), pair.image if with_image else None)
            for with_image in (True, False)
            for pair in self.pairs
            for response in (pair.chosen, pair.rejected)
        ]

    def _measure(
        self, sighted: Sequence[CritiquePair], blind: Sequence[CritiquePair], rewards: Sequence[float]
    ) -> dict[str, Metric]:
        images, are_judged = self.images, [is_judged(pair) for pair in sighted]
        judged_images = images and list(compress(images, are_judged))
        single = pointwise(list(compress(sighted, are_judged)), rewards, judged_images)
        readable = [parse_critique(c.text).judgement is not None and not c.asked for pair in sighted for c in pair]
        baselines = by_length((pair.chosen, pair.rejected) for pair in self.pairs)
        return {
            ACCURACY: clustered_share([prefers_chosen(*pair) for pair in sighted], images),
            f"blind_{ACCURACY}": clustered_share([prefers_chosen(*pair) for pair in blind], images),
            "held_out_undecided": undecided(sighted, images),
            **{f"held_out_{name}": single[name] for name in ("balanced_accuracy", "ece", "ece_uncalibrated")},
            "held_out_critique_readable": clustered_share(readable, of_responses(images)),
            **{f"held_out_{name}_accuracy": clustered_share(hits, images) for name, hits in baselines.items()},
        }

    def _samples(self, sighted: Sequence[CritiquePair]) -> list[dict[str, Any]]:
        """The first pairs with their critiques, as the report shows them."""
        return [
            {
                "item_id": pair.pair_id, "kind": "held_out", "image": pair.image, "question": pair.question,
                "chosen": pair.chosen, "rejected": pair.rejected,
                "chosen_critique": asdict(chosen), "rejected_critique": asdict(rejected),
            }
            for pair, (chosen, rejected) in zip(self.pairs[:SAMPLES], sighted, strict=False)
        ]  # fmt: skip


def _calibrated_rewards(judged: Sequence[tuple[HeldOutPair, CritiquePair]]) -> list[float]:
    """Rewards scaled by a temperature that was fitted on the images of the other half (two-fold cross-fitting)."""
    folds = [seed_of("fold", pair.sha256) % 2 for pair, _ in judged]
    fitted = [
        temperature_of([critiques for (_, critiques), f in zip(judged, folds, strict=True) if f != fold])
        for fold in (0, 1)
    ]
    return [
        reward
        for (_, critiques), fold in zip(judged, folds, strict=True)
        for reward in calibrated([critiques], fitted[fold])
    ]
