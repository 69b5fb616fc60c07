"""Evaluates a reward model on verified pairs about images that it was not trained on.

The labels are the experts' verdicts, as in training: a metric here says how well the model reproduces them on new images, not
how often the experts are right. The same pairs are judged after each round.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlrm_ray.engines import Request, scored_critique
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.clusters import ece
from vlrm_ray.evaluation.evaluator import Evaluated, JudgeFn
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import CritiqueFormat, parse_critique, prefers_chosen
from vlrm_ray.reward.temperature_scaling import calibrated_reward, fit_temperature, log_odds
from vlrm_ray.types import ScoredCritique

ACCURACY = "held_out_pair_accuracy"
"""Name of the main metric."""
LEAST_PAIRS = 50
"""Fewest judged pairs whose temperature is published with the model."""
SAMPLES = 24
"""Pairs whose critiques the report shows in full."""
CritiquePair = tuple[ScoredCritique, ScoredCritique]
"""The critiques of a pair's chosen and rejected response."""


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

    def critique_count(self) -> int:
        """See `Evaluator.critique_count`: each response is judged with and without the image."""
        return len(dict.fromkeys(self._requests()))

    def evaluate(self, judge: JudgeFn) -> Evaluated:
        """Measure accuracy, also without the image, calibration, and baselines; no pair gives metrics with N = 0.

        A pair with a response that was not judged counts as wrong, and is left out of what is measured of single responses.
        """
        requests = self._requests()
        distinct = list(dict.fromkeys(requests))
        answers = dict(zip(distinct, judge(distinct), strict=True)) if distinct else {}
        critiques = [scored_critique(answers[request]) for request in requests]
        pairs = list(zip(critiques[::2], critiques[1::2], strict=True))
        sighted, blind = pairs[: len(self.pairs)], pairs[len(self.pairs) :]
        judged = [(pair, found) for pair, found in zip(self.pairs, sighted, strict=True) if _is_judged(found)]
        temperature, rewards = _temperature([found for _, found in judged]), _calibrated_rewards(judged)
        details: dict[str, Any] = {
            "hits": {ACCURACY: "".join(str(int(prefers_chosen(*found))) for found in sighted)},
            "samples": self._samples(sighted),
        }
        if judged:
            bins = metrics.reliability(rewards, [True, False] * len(judged))
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
        lengths = [(len(pair.chosen), len(pair.rejected)) for pair in self.pairs]
        judged = [pair for pair in sighted if _is_judged(pair)]
        uncalibrated, right = [c.reward for pair in judged for c in pair], [True, False] * len(judged)
        readable = [parse_critique(c.text).judgement is not None and not c.asked for pair in sighted for c in pair]
        return {
            ACCURACY: metrics.share([prefers_chosen(*pair) for pair in sighted]),
            f"blind_{ACCURACY}": metrics.share([prefers_chosen(*pair) for pair in blind]),
            "held_out_undecided": metrics.share([not _is_judged(pair) for pair in sighted]),
            "held_out_balanced_accuracy": metrics.balanced_accuracy(uncalibrated, right),
            "held_out_ece": ece(rewards, right),
            "held_out_ece_uncalibrated": ece(uncalibrated, right),
            "held_out_critique_readable": metrics.share(readable),
            "held_out_pick_shorter_accuracy": metrics.share([c < r for c, r in lengths]),
            "held_out_pick_longer_accuracy": metrics.share([c > r for c, r in lengths]),
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


def _is_judged(pair: CritiquePair) -> bool:
    return all(critique.label_mass > 0 for critique in pair)


def _calibrated_rewards(judged: Sequence[tuple[HeldOutPair, CritiquePair]]) -> list[float]:
    """Rewards scaled by a temperature that was fitted on the images of the other half (two-fold cross-fitting)."""
    folds = [seed_of("fold", pair.sha256) % 2 for pair, _ in judged]
    fitted = [
        _temperature([critiques for (_, critiques), f in zip(judged, folds, strict=True) if f != fold])
        for fold in (0, 1)
    ]
    return [
        calibrated_reward(critique.yes, critique.no, fitted[fold])
        for (_, critiques), fold in zip(judged, folds, strict=True)
        for critique in critiques
    ]


def _temperature(pairs: Sequence[CritiquePair]) -> float:
    odds = [log_odds(critique.yes, critique.no) for pair in pairs for critique in pair]
    return fit_temperature(odds, [True, False] * len(pairs))
