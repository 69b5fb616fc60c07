"""How well the reward model judges, on pairs no stage has seen; and how well one does without looking."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.engines import Completion, Request, scored_critique
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.preferences.critique import CritiqueFormat, parse
from vlrm_ray.reward.temperature_scaling import calibrated, fit_temperature, log_odds
from vlrm_ray.scenes.bench import HALLUCINATION_GROUP, REASONING_GROUP, BenchItem, prior_noun, usual
from vlrm_ray.scenes.facts import KINDS, stated
from vlrm_ray.types import ScoredCritique, Verdict

JudgeFn = Callable[[list[Request]], list[Completion]]
"""Writes one greedy critique for each request."""
GROUPS = (HALLUCINATION_GROUP, REASONING_GROUP)
AGREEING, AGAINST = "agreeing_with_prior", "against_prior"
_EXTRACTOR, _VERIFIER = RuleExtractor(), Verifier(Calibrations(exhaustive=KINDS))
SAMPLES_PER_KIND = 6
"""Items of each kind whose critiques are kept for people to read."""


@dataclass(frozen=True)
class BenchCritiques:
    """Critiques of each item's two responses: as shown, without the image, and asked in other words.

    Each entry is (critique of chosen, critique of rejected); `rephrased` has those of the reasoning items.
    """

    shown: list[tuple[ScoredCritique, ScoredCritique]]
    blind: list[tuple[ScoredCritique, ScoredCritique]]
    rephrased: list[tuple[ScoredCritique, ScoredCritique]]


def judge_items(items: Sequence[BenchItem], wording: CritiqueFormat, ask: JudgeFn) -> BenchCritiques:
    """Have all views of the items judged, in one batch; only reasoning is asked in other words.

    Greedy answers to the same request are the same, so it is made once: without their images many items are alike.
    """
    requests = _requests(items, wording)
    distinct = list(dict.fromkeys(requests))
    known = dict(zip(distinct, ask(distinct), strict=True))
    pairs = _in_pairs([known[request] for request in requests])
    n = len(items)
    return BenchCritiques(pairs[:n], pairs[n : 2 * n], pairs[2 * n :])


def critique_count(items: Sequence[BenchItem], wording: CritiqueFormat) -> int:
    """How many critiques `judge_items` asks for."""
    return len(set(_requests(items, wording)))


def _requests(items: Sequence[BenchItem], wording: CritiqueFormat) -> list[Request]:
    again = [item for item in items if item.group == REASONING_GROUP]
    return [
        *(r for item in items for r in _both(item, item.question, wording, item.image)),
        *(r for item in items for r in _both(item, item.question, wording, None)),
        *(r for item in again for r in _both(item, item.rephrased, wording, item.image)),
    ]


def temperature(items: Sequence[BenchItem], wording: CritiqueFormat, ask: JudgeFn) -> float:
    """The temperature that calibrates the reward, fitted on items that nothing is measured on."""
    pairs = _in_pairs(ask([r for item in items for r in _both(item, item.question, wording, item.image)]))
    odds = [log_odds(j.yes, j.no) for pair in pairs for j in pair]
    return fit_temperature(odds, [True, False] * len(pairs))


def _in_pairs(answers: Sequence[Completion]) -> list[tuple[ScoredCritique, ScoredCritique]]:
    found = [scored_critique(answer) for answer in answers]
    return list(zip(found[::2], found[1::2], strict=True))


def measure(items: Sequence[BenchItem], views: BenchCritiques, temperature: float = 1.0) -> dict[str, Metric]:
    """All figures by name, as `report.json` holds them; `ece` is that of the reward at the temperature."""
    found: dict[str, Metric] = {}
    for group in GROUPS:
        found[f"{group}_pair_accuracy"] = _pair_accuracy(items, views.shown, group)
        found[f"blind_{group}_pair_accuracy"] = _pair_accuracy(items, views.blind, group)
    for kind in dict.fromkeys(item.kind for item in items):
        chosen = [(i, v) for i, v in zip(items, views.shown, strict=True) if i.kind == kind]
        found[f"{kind}_pair_accuracy"] = metrics.share([c.reward > r.reward for _, (c, r) in chosen])
    found["reasoning_consistency"] = metrics.share(_consistent(items, views))
    found |= _by_prior(items, views.shown)
    return found | _baselines(items) | _pointwise(views.shown, temperature) | _critiques(items, views.shown)


def details(items: Sequence[BenchItem], views: BenchCritiques, temperature: float = 1.0) -> dict[str, Any]:
    """What the report shows beside the figures: calibration by bin, outcomes by item, some critiques in full.

    `hits` has a 1 for each pair judged rightly, in the items' order: two rounds can be compared pair by pair.
    """
    rewards = [calibrated(j.yes, j.no, temperature) for view in views.shown for j in view]
    return {
        "temperature": temperature,
        "reliability": metrics.reliability(rewards, [True, False] * len(views.shown)),
        "hits": {
            f"{group}_pair_accuracy": "".join(
                str(int(c.reward > r.reward))
                for item, (c, r) in zip(items, views.shown, strict=True)
                if item.group == group
            )
            for group in GROUPS
        }
        | {"reasoning_consistency": "".join(str(int(hit)) for hit in _consistent(items, views))},
        "prior": prior_table(items, views.shown),
        "samples": _samples(items, views),
    }


def _samples(items: Sequence[BenchItem], views: BenchCritiques) -> list[dict[str, Any]]:
    """The first items of each kind with their critiques: the same ones after every round."""
    seen: Counter[str] = Counter()
    found = []
    for item, (chosen, rejected) in zip(items, views.shown, strict=True):
        seen[item.kind] += 1
        if seen[item.kind] <= SAMPLES_PER_KIND:
            shown = {
                name: getattr(item, name) for name in ("item_id", "kind", "image", "question", "chosen", "rejected")
            }
            found.append(shown | {"chosen_critique": asdict(chosen), "rejected_critique": asdict(rejected)})
    return found


def _both(item: BenchItem, question: str, wording: CritiqueFormat, image: str | None) -> list[Request]:
    return [Request(wording.prompt(question, response), image) for response in (item.chosen, item.rejected)]


def _pair_accuracy(
    items: Sequence[BenchItem], views: Sequence[tuple[ScoredCritique, ScoredCritique]], group: str
) -> Metric:
    inside = [view for item, view in zip(items, views, strict=True) if item.group == group]
    return metrics.share(metrics.prefers_chosen([c.reward for c, _ in inside], [r.reward for _, r in inside]))


def _by_prior(items: Sequence[BenchItem], views: Sequence[tuple[ScoredCritique, ScoredCritique]]) -> dict[str, Metric]:
    """Pairs in which what is usual is the truth, and those in which it is the lie."""
    hits: dict[str, list[bool]] = {AGREEING: [], AGAINST: []}
    for _, side, hit in _pairs_about_the_prior(items, views):
        hits[side].append(hit)
    return {f"{name}_pair_accuracy": metrics.share(found) for name, found in hits.items()}


def prior_table(
    items: Sequence[BenchItem], views: Sequence[tuple[ScoredCritique, ScoredCritique]]
) -> dict[str, dict[str, dict[str, float]]]:
    """The same by what the pair is about: {noun: {side: {value, n}}}, the noun a shape or a sign."""
    hits: dict[str, dict[str, list[bool]]] = {}
    for noun, side, hit in _pairs_about_the_prior(items, views):
        hits.setdefault(noun, {}).setdefault(side, []).append(hit)
    return {
        noun: {side: {"value": round(sum(found) / len(found), 6), "n": len(found)} for side, found in sides.items()}
        for noun, sides in sorted(hits.items())
    }


def _pairs_about_the_prior(
    items: Sequence[BenchItem], views: Sequence[tuple[ScoredCritique, ScoredCritique]]
) -> Iterator[tuple[str, str, bool]]:
    """Of each pair of which one side says what is usual: about what, which side that is, whether it is judged rightly."""
    for item, (chosen, rejected) in zip(items, views, strict=True):
        right, wrong = (usual(slot) for slot in item.slots)
        if right != wrong:
            noun = prior_noun(item.slots[0] if right else item.slots[1])
            yield noun, AGREEING if right else AGAINST, chosen.reward > rejected.reward


def _consistent(items: Sequence[BenchItem], views: BenchCritiques) -> list[bool]:
    """Reasoning pairs judged rightly on both sides, from true facts, and the same when rephrased."""
    held = []
    reasoning = [(i, v) for i, v in zip(items, views.shown, strict=True) if i.group == REASONING_GROUP]
    for (item, shown), again in zip(reasoning, views.rephrased, strict=True):
        judgements = [parse(j.text).judgement for j in (*shown, *again)]
        truthful = all(states_only_facts(j.text, item.facts) for j in shown)
        held.append(judgements == [True, False, True, False] and truthful)
    return held


def states_only_facts(critique: str, facts: Sequence[str]) -> bool:
    """Whether a critique's description says nothing false; an empty one says nothing at all."""
    stated = [part.strip() for part in parse(critique).seen.split(",") if part.strip()]
    return bool(stated) and all(part in facts for part in stated)


def _baselines(items: Sequence[BenchItem]) -> dict[str, Metric]:
    lengths = [(len(i.chosen), len(i.rejected)) for i in items]
    return {
        "pick_shorter_accuracy": metrics.share([c < r for c, r in lengths]),
        "pick_longer_accuracy": metrics.share([c > r for c, r in lengths]),
        "always_first_accuracy": metrics.share([int(i.item_id[-1]) % 2 == 0 for i in items]),
    }


def _pointwise(views: Sequence[tuple[ScoredCritique, ScoredCritique]], temperature: float) -> dict[str, Metric]:
    rewards = [j.reward for view in views for j in view]
    scaled = [calibrated(j.yes, j.no, temperature) for view in views for j in view]
    right = [True, False] * len(views)
    return {
        "ece": metrics.ece(scaled, right),
        "ece_uncalibrated": metrics.ece(rewards, right),
        "pointwise_balanced_accuracy": metrics.balanced_accuracy(rewards, right),
        "pointwise_f1": metrics.f1(rewards, right),
    }


def _critiques(items: Sequence[BenchItem], views: Sequence[tuple[ScoredCritique, ScoredCritique]]) -> dict[str, Metric]:
    """Whether critiques are honest: a right judgement from false facts is counted, not hidden."""
    sides = [
        (item, response, right, critique)
        for item, view in zip(items, views, strict=True)
        for response, right, critique in zip((item.chosen, item.rejected), (True, False), view, strict=True)
    ]
    true = [states_only_facts(critique.text, item.facts) for item, _, _, critique in sides]
    rightly = [parse(critique.text).judgement is right for _, _, right, critique in sides]
    return {
        "critique_facts_true": metrics.share(true),
        "critique_follows": metrics.share([follows(c.text, response, i.question) for i, response, _, c in sides]),
        "critique_right_by_false_facts": metrics.share([r and not t for r, t in zip(rightly, true, strict=True)]),
        "critique_readable": metrics.share([parse(c.text).judgement is not None for *_, c in sides]),
    }


def follows(critique: str, response: str, question: str) -> bool:
    """Whether a critique's judgement is the one that its own description calls for, true or not."""
    parts = parse(critique)
    evidence = stated(parts.seen)
    if parts.judgement is None or not evidence.objects:
        return False
    checked = [_VERIFIER.check(claim, evidence) for claim in _EXTRACTOR.claims(response, question)]
    fails = any(c.finding.verdict is Verdict.CONTRADICTED for c in checked)
    return parts.judgement is not fails
