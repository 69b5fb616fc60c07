"""What every evaluation of pairs does alike: how it asks, which pairs it counts, and the baselines by length.

A pair with a response that was not judged, as when the engine refuses it, is wrong as a pair. Nothing is known about the reward of
that response: what is measured of single responses leaves the pair out, and `undecided` says how many such pairs there are.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from vlrm_ray.engines import Request, scored_critique
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.clusters import balanced_accuracy, clustered_share, ece
from vlrm_ray.evaluation.evaluator import JudgeFn
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.reward.temperature_scaling import calibrated_reward, fit_temperature, log_odds
from vlrm_ray.types import ScoredCritique

CritiquePair = tuple[ScoredCritique, ScoredCritique]
"""The critiques of a pair's chosen and rejected response."""


def ask_once(judge: JudgeFn, requests: Sequence[Request]) -> list[ScoredCritique]:
    """The critique of each request. Decoding is greedy, so equal requests have equal answers, and each is sent once."""
    distinct = list(dict.fromkeys(requests))
    answers = dict(zip(distinct, judge(distinct), strict=True)) if distinct else {}
    return [scored_critique(answers[request]) for request in requests]


def in_pairs(critiques: Sequence[ScoredCritique]) -> list[CritiquePair]:
    """Critiques of a chosen and a rejected response in turn, as pairs."""
    return list(zip(critiques[::2], critiques[1::2], strict=True))


def is_judged(pair: CritiquePair) -> bool:
    """Whether both critiques have a judgement."""
    return all(critique.label_mass > 0 for critique in pair)


def undecided(pairs: Sequence[CritiquePair], clusters: Sequence[Hashable] | None = None) -> Metric:
    """Share of pairs with a response that was not judged; `clusters` has the cluster of each pair."""
    return clustered_share([not is_judged(pair) for pair in pairs], clusters)


def temperature_of(judged: Sequence[CritiquePair]) -> float:
    """The temperature that calibrates the rewards of judged pairs; 1 without any."""
    odds = [log_odds(critique.yes, critique.no) for pair in judged for critique in pair]
    return fit_temperature(odds, labels(judged))


def calibrated(pairs: Sequence[CritiquePair], temperature: float) -> list[float]:
    """The rewards of both responses of all pairs at a temperature."""
    return [calibrated_reward(critique.yes, critique.no, temperature) for pair in pairs for critique in pair]


def labels(pairs: Sequence[CritiquePair]) -> list[bool]:
    """Whether each response is right, for the responses of all pairs: the chosen one is, the rejected one is not."""
    return [True, False] * len(pairs)


def of_responses(clusters: Sequence[Hashable] | None) -> list[Hashable] | None:
    """The cluster of each response of pairs, from that of each pair."""
    return None if clusters is None else [cluster for cluster in clusters for _ in range(2)]


def pointwise(
    judged: Sequence[CritiquePair], rewards: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> dict[str, Metric]:
    """What is measured of single responses.

    Args:
        judged: the pairs of which both responses were judged.
        rewards: the calibrated rewards of their responses, in the same order.
        clusters: the cluster of each pair, such as its image, if some have several pairs. F1 takes pairs for independent.

    Returns:
        Balanced accuracy, F1 of detecting wrong responses, and the calibration error of `rewards` and of uncalibrated ones.
    """
    each = of_responses(clusters)
    uncalibrated, right = [critique.reward for pair in judged for critique in pair], labels(judged)
    return {
        "balanced_accuracy": balanced_accuracy(uncalibrated, right, each),
        "f1": metrics.f1(uncalibrated, right),
        "ece": ece(rewards, right, each),
        "ece_uncalibrated": ece(uncalibrated, right, each),
    }


def by_length(texts: Iterable[tuple[str, str]]) -> dict[str, list[bool]]:
    """Whether the shorter, and whether the longer of two responses is the better one; false if they are equally long.

    Args:
        texts: the better and the worse response of each pair.
    """
    lengths = [(len(better), len(worse)) for better, worse in texts]
    return {"pick_shorter": [b < w for b, w in lengths], "pick_longer": [b > w for b, w in lengths]}


def stored(name: str, hits: Sequence[bool], clusters: Sequence[int] | None) -> dict[str, dict[str, Any]]:
    """The details by which `gains` pairs a metric by item: `hits`, and `clusters` if some have several items."""
    return {"hits": {name: outcomes(hits)}} | ({} if clusters is None else {"clusters": {name: list(clusters)}})


def outcomes(hits: Iterable[bool]) -> str:
    """Whether each item was judged rightly, as evaluations store it under `hits`: "1" if it was, otherwise "0"."""
    return "".join("1" if hit else "0" for hit in hits)
