"""Evaluates a reward model on ScenesBench: pair accuracy, consistency, calibration, and text-only baselines."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.engines import Request
from vlrm_ray.evaluation import metrics
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
    outcomes,
    pointwise,
    temperature_of,
    undecided,
)
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.preferences.critique import CritiqueFormat, parse_critique, prefers_chosen
from vlrm_ray.scenes.bench import (
    CALIBRATION,
    CALIBRATION_PAIRS,
    HALLUCINATION_GROUP,
    REASONING_GROUP,
    TOLD_PAIRS,
    BenchItem,
    is_new_combination,
    is_sign,
    items,
    matches_prior,
    prior_noun,
)
from vlrm_ray.scenes.facts import KINDS, parse_description
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Verdict

GROUPS = (HALLUCINATION_GROUP, REASONING_GROUP)
AGREEING, AGAINST = "agreeing_with_prior", "against_prior"
_EXTRACTOR, _VERIFIER = RuleExtractor(), Verifier(Calibrations(exhaustive=KINDS))
SAMPLES_PER_KIND = 6
"""Items of each kind whose critiques the report shows in full."""


@dataclass(frozen=True)
class BenchCritiques:
    """Critiques of each item's two responses under three conditions.

    Attributes:
        sighted: with the image, for all items.
        blind: without the image, for all items.
        rephrased: with the image and the rephrased question, for the items of the reasoning group.
        told: with the image and its true facts as the critique's prefix, for `told_items`; empty without a critique.
    """

    sighted: list[CritiquePair]
    blind: list[CritiquePair]
    rephrased: list[CritiquePair]
    told: list[CritiquePair]


class ScenesBench:
    """Implements `vlrm_ray.evaluation.evaluator.Evaluator` for ScenesBench."""

    title, headline = "evaluate", ("hallucination_pair_accuracy", "reasoning_pair_accuracy")

    def __init__(self, split: str, per_group: int, critique_format: CritiqueFormat, ledger: Ledger) -> None:
        """Use `per_group` pairs of each group of a split; their images are stored in `ledger`."""
        self.critique_format = critique_format
        self.items = items(split, per_group, ledger)
        self.calibration = items(CALIBRATION, CALIBRATION_PAIRS, ledger)

    def critique_count(self) -> int:
        """See `Evaluator.critique_count`."""
        return critique_count(self.items, self.critique_format) + 2 * len(self.calibration)

    def evaluate(self, judge: JudgeFn) -> Evaluated:
        """Fit the temperature on the calibration split, then measure."""
        judged = judge_calibration(self.calibration, self.critique_format, judge)
        fitted = temperature_of(judged)
        critiques = judge_items(self.items, self.critique_format, judge)
        return Evaluated(
            measure(self.items, critiques, fitted),
            details(self.items, critiques, fitted),
            {"temperature": fitted, "n": 2 * len(judged), "split": CALIBRATION},
        )


def judge_items(items: Sequence[BenchItem], critique_format: CritiqueFormat, judge: JudgeFn) -> BenchCritiques:
    """Get the critiques of all items under all conditions, in one batch; without the image many items ask the same."""
    pairs = in_pairs(ask_once(judge, _requests(items, critique_format)))
    n = len(items)
    rephrased = 2 * n + sum(item.group == REASONING_GROUP for item in items)
    return BenchCritiques(pairs[:n], pairs[n : 2 * n], pairs[2 * n : rephrased], pairs[rephrased:])


def critique_count(items: Sequence[BenchItem], critique_format: CritiqueFormat) -> int:
    """Number of critiques that `judge_items` requests."""
    return len(set(_requests(items, critique_format)))


def _requests(items: Sequence[BenchItem], critique_format: CritiqueFormat) -> list[Request]:
    reasoning = [item for item in items if item.group == REASONING_GROUP]
    return [
        *(r for item in items for r in _both(item, item.question, critique_format, item.image)),
        *(r for item in items for r in _both(item, item.question, critique_format, None)),
        *(r for item in reasoning for r in _both(item, item.rephrased, critique_format, item.image)),
        *(r for item in told_items(items, critique_format) for r in _told(item, critique_format)),
    ]


def told_items(items: Sequence[BenchItem], critique_format: CritiqueFormat) -> list[BenchItem]:
    """The items whose judgements from told facts are measured: the first `TOLD_PAIRS`, of both groups in turn."""
    if not critique_format.prefix_template:
        return []
    by_group = [[item for item in items if item.group == group] for group in GROUPS]
    return [item for pair in zip(*by_group, strict=False) for item in pair][:TOLD_PAIRS]


def _told(item: BenchItem, critique_format: CritiqueFormat) -> list[Request]:
    prefix = critique_format.prefix(", ".join(item.facts))
    return [replace(request, prefix=prefix) for request in _both(item, item.question, critique_format, item.image)]


def _both(item: BenchItem, question: str, critique_format: CritiqueFormat, image: str | None) -> list[Request]:
    return [Request(critique_format.prompt(question, response), image) for response in (item.chosen, item.rejected)]


def judge_calibration(
    items: Sequence[BenchItem], critique_format: CritiqueFormat, judge: JudgeFn
) -> list[CritiquePair]:
    """Critiques of the judged ones among some items; they must be of a split that no metric is computed on."""
    requests = [r for item in items for r in _both(item, item.question, critique_format, item.image)]
    return [pair for pair in in_pairs(ask_once(judge, requests)) if is_judged(pair)]


def measure(items: Sequence[BenchItem], critiques: BenchCritiques, temperature: float = 1.0) -> dict[str, Metric]:
    """All metrics by their names in `report.json`. `ece` is computed after scaling by the temperature.

    A pair with a response that was not judged counts as wrong, and is left out of what is measured of single responses.
    """
    sighted = critiques.sighted
    result: dict[str, Metric] = {}
    for group in GROUPS:
        result[f"{group}_pair_accuracy"] = _pair_accuracy(items, sighted, group)
        result[f"blind_{group}_pair_accuracy"] = _pair_accuracy(items, critiques.blind, group)
    for kind in dict.fromkeys(item.kind for item in items):
        pairs = [pair for item, pair in zip(items, sighted, strict=True) if item.kind == kind]
        result[f"{kind}_pair_accuracy"] = metrics.share([prefers_chosen(*pair) for pair in pairs])
    result["reasoning_consistency"] = metrics.share(_consistent(items, critiques))
    result |= _by_combination(items, critiques) | _facts_stated(items, sighted)
    if critiques.told:
        result["told_pair_accuracy"] = metrics.share([prefers_chosen(*pair) for pair in critiques.told])
    result["undecided"] = undecided(sighted)
    result |= _by_prior(items, sighted)
    return result | _baselines(items) | _pointwise(sighted, temperature) | _critique_metrics(items, sighted)


def details(items: Sequence[BenchItem], critiques: BenchCritiques, temperature: float = 1.0) -> dict[str, Any]:
    """What the report shows beside the metrics: reliability bins, outcomes by item, some critiques in full.

    The order of `hits` is that of the items, which allows a paired comparison of two rounds.
    """
    judged = [pair for pair in critiques.sighted if is_judged(pair)]
    return {
        "temperature": temperature,
        "reliability": metrics.reliability(calibrated(judged, temperature), labels(judged)),
        "hits": {
            f"{group}_pair_accuracy": outcomes(
                prefers_chosen(*pair)
                for item, pair in zip(items, critiques.sighted, strict=True)
                if item.group == group
            )
            for group in GROUPS
        }
        | {"reasoning_consistency": outcomes(_consistent(items, critiques))},
        "prior": prior_table(items, critiques.sighted),
        "samples": _samples(items, critiques),
    }


def _samples(items: Sequence[BenchItem], critiques: BenchCritiques) -> list[dict[str, Any]]:
    """The first items of each kind with their critiques; the same items after every round."""
    counts: Counter[str] = Counter()
    samples = []
    for item, (chosen, rejected) in zip(items, critiques.sighted, strict=True):
        counts[item.kind] += 1
        if counts[item.kind] <= SAMPLES_PER_KIND:
            sample = {
                name: getattr(item, name) for name in ("item_id", "kind", "image", "question", "chosen", "rejected")
            }
            samples.append(sample | {"chosen_critique": asdict(chosen), "rejected_critique": asdict(rejected)})
    return samples


def _pair_accuracy(items: Sequence[BenchItem], pairs: Sequence[CritiquePair], group: str) -> Metric:
    return metrics.share(
        [prefers_chosen(*pair) for item, pair in zip(items, pairs, strict=True) if item.group == group]
    )


def _by_combination(items: Sequence[BenchItem], critiques: BenchCritiques) -> dict[str, Metric]:
    """Pair accuracy and consistency by whether the image has a combination of shape and color that training does not show."""
    hits = [(item, prefers_chosen(*pair)) for item, pair in zip(items, critiques.sighted, strict=True)]
    reasoning = [item for item in items if item.group == REASONING_GROUP]
    consistent = list(zip(reasoning, _consistent(items, critiques), strict=True))
    return {
        f"{name}_combinations_{metric}": metrics.share([hit for item, hit in found if item.has_new_combination is new])
        for metric, found in (("pair_accuracy", hits), ("consistency", consistent))
        for name, new in (("known", False), ("new", True))
    }


def _facts_stated(items: Sequence[BenchItem], pairs: Sequence[CritiquePair]) -> dict[str, Metric]:
    """Share of the true facts that descriptions state: of signs, and of shapes in colors that training shows or does not show."""
    stated: dict[str, list[bool]] = {"known_shapes": [], "new_shapes": [], "signs": []}
    for item, pair in zip(items, pairs, strict=True):
        for critique in pair:
            seen = _described(critique.text)
            for fact in item.facts:
                kind = "signs" if is_sign(fact) else "new_shapes" if is_new_combination(fact) else "known_shapes"
                stated[kind].append(fact in seen)
    return {f"{kind}_stated": metrics.share(hits) for kind, hits in stated.items()}


def _by_prior(items: Sequence[BenchItem], pairs: Sequence[CritiquePair]) -> dict[str, Metric]:
    """Pair accuracy where the prior agrees with the truth, and where it contradicts it."""
    hits: dict[str, list[bool]] = {AGREEING: [], AGAINST: []}
    for _, side, hit in _pairs_about_the_prior(items, pairs):
        hits[side].append(hit)
    return {f"{side}_pair_accuracy": metrics.share(outcomes) for side, outcomes in hits.items()}


def prior_table(items: Sequence[BenchItem], pairs: Sequence[CritiquePair]) -> dict[str, dict[str, dict[str, float]]]:
    """Pair accuracy with and against the prior, by noun: {noun: {side: {value, n}}}; a noun is a shape or "sign"."""
    hits: dict[str, dict[str, list[bool]]] = {}
    for noun, side, hit in _pairs_about_the_prior(items, pairs):
        hits.setdefault(noun, {}).setdefault(side, []).append(hit)
    return {
        noun: {
            side: {"value": round(sum(outcomes) / len(outcomes), 6), "n": len(outcomes)}
            for side, outcomes in sides.items()
        }
        for noun, sides in sorted(hits.items())
    }


def _pairs_about_the_prior(
    items: Sequence[BenchItem], pairs: Sequence[CritiquePair]
) -> Iterator[tuple[str, str, bool]]:
    """For each pair in which exactly one response matches the prior: (noun, `AGREEING` or `AGAINST`, judged correctly)."""
    for item, pair in zip(items, pairs, strict=True):
        right, wrong = (matches_prior(slot) for slot in item.slots)
        if right != wrong:
            noun = prior_noun(item.slots[0] if right else item.slots[1])
            yield noun, AGREEING if right else AGAINST, prefers_chosen(*pair)


def _consistent(items: Sequence[BenchItem], critiques: BenchCritiques) -> list[bool]:
    """Whether each reasoning pair is judged correctly, from true facts, and again when the question is rephrased."""
    outcomes = []
    reasoning = [(i, p) for i, p in zip(items, critiques.sighted, strict=True) if i.group == REASONING_GROUP]
    for (item, sighted), rephrased in zip(reasoning, critiques.rephrased, strict=True):
        judgements = [parse_critique(c.text).judgement for c in (*sighted, *rephrased)]
        truthful = all(states_only_facts(c.text, item.facts) for c in sighted)
        outcomes.append(judgements == [True, False, True, False] and truthful)
    return outcomes


def states_only_facts(critique: str, facts: Sequence[str]) -> bool:
    """Whether the critique's description states only true facts; False for an empty description."""
    stated = _described(critique)
    return bool(stated) and all(part in facts for part in stated)


def _described(critique: str) -> list[str]:
    """The parts of a critique's description."""
    return [part.strip() for part in parse_critique(critique).seen.split(",") if part.strip()]


def _baselines(items: Sequence[BenchItem]) -> dict[str, Metric]:
    lengths = by_length((item.chosen, item.rejected) for item in items)
    return {
        **{f"{name}_accuracy": metrics.share(hits) for name, hits in lengths.items()},
        "always_first_accuracy": metrics.share([int(i.item_id[-1]) % 2 == 0 for i in items]),
    }


def _pointwise(pairs: Sequence[CritiquePair], temperature: float) -> dict[str, Metric]:
    judged = [pair for pair in pairs if is_judged(pair)]
    single = pointwise(judged, calibrated(judged, temperature))
    return {
        "ece": single["ece"],
        "ece_uncalibrated": single["ece_uncalibrated"],
        "pointwise_balanced_accuracy": single["balanced_accuracy"],
        "pointwise_f1": single["f1"],
    }


def _critique_metrics(items: Sequence[BenchItem], pairs: Sequence[CritiquePair]) -> dict[str, Metric]:
    """Quality of the critiques' texts, including how often a correct judgement rests on false facts."""
    sides = [
        (item, response, right, critique)
        for item, pair in zip(items, pairs, strict=True)
        for response, right, critique in zip((item.chosen, item.rejected), (True, False), pair, strict=True)
    ]
    true = [states_only_facts(critique.text, item.facts) for item, _, _, critique in sides]
    correct = [parse_critique(critique.text).judgement is right for _, _, right, critique in sides]
    return {
        "critique_facts_true": metrics.share(true),
        "critique_follows": metrics.share(
            [judgement_follows(c.text, response, i.question) for i, response, _, c in sides]
        ),
        "critique_right_by_false_facts": metrics.share([c and not t for c, t in zip(correct, true, strict=True)]),
        "critique_readable": metrics.share(
            [parse_critique(c.text).judgement is not None and not c.asked for *_, c in sides]
        ),
    }


def judgement_follows(critique: str, response: str, question: str) -> bool:
    """Whether the critique's judgement follows from its own description, be that true or false."""
    parts = parse_critique(critique)
    evidence = parse_description(parts.seen)
    if parts.judgement is None or not evidence.objects:
        return False
    checked = [_VERIFIER.check(claim, evidence) for claim in _EXTRACTOR.claims(response, question)]
    contradicted = any(c.finding.verdict is Verdict.CONTRADICTED for c in checked)
    return parts.judgement is not contradicted
