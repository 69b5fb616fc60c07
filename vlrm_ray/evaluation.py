"""How well the reward model judges, on pairs no stage has seen; and how well one does without looking."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlrm_ray import metrics
from vlrm_ray.critique import CritiqueFormat, parse
from vlrm_ray.engines import Completion, Request
from vlrm_ray.metrics import Metric
from vlrm_ray.scenes.bench import HALLUCINATION_GROUP, REASONING_GROUP, BenchItem
from vlrm_ray.types import Judged

Ask = Callable[[list[Request]], list[Completion]]
"""Writes one greedy critique for each request."""
GROUPS = (HALLUCINATION_GROUP, REASONING_GROUP)
SAMPLES_PER_KIND = 6
"""Items of each kind whose critiques are kept for people to read."""


@dataclass(frozen=True)
class Views:
    """Critiques of each item's two responses: as shown, without the image, and asked in other words.

    Each entry is (critique of chosen, critique of rejected); a view that was not taken is empty.
    """

    shown: list[tuple[Judged, Judged]]
    blind: list[tuple[Judged, Judged]]
    rephrased: list[tuple[Judged, Judged]]


def look(items: Sequence[BenchItem], wording: CritiqueFormat, ask: Ask, *, blind: bool, rephrase: bool) -> Views:
    """Have all views of the items judged, in one batch."""
    requests: list[Request] = []
    for item in items:
        requests += _both(item, item.question, wording, item.image)
    if blind:
        for item in items:
            requests += _both(item, item.question, wording, None)
    if rephrase:
        for item in items:
            requests += _both(item, item.rephrased, wording, item.image)
    judged = [Judged(c.text, round(c.yes, 6), round(c.no, 6)) for c in ask(requests)]
    pairs = list(zip(judged[::2], judged[1::2], strict=True))
    n = len(items)
    return Views(pairs[:n], pairs[n : 2 * n] if blind else [], pairs[n * (1 + blind) :] if rephrase else [])


def measure(items: Sequence[BenchItem], views: Views) -> dict[str, Metric]:
    """All figures by name, as `report.json` holds them."""
    found: dict[str, Metric] = {}
    for group in GROUPS:
        found[f"{group}_pair_accuracy"] = _pair_accuracy(items, views.shown, group)
        if views.blind:
            found[f"blind_{group}_pair_accuracy"] = _pair_accuracy(items, views.blind, group)
    for kind in dict.fromkeys(item.kind for item in items):
        chosen = [(i, v) for i, v in zip(items, views.shown, strict=True) if i.kind == kind]
        found[f"{kind}_pair_accuracy"] = metrics.share([c.reward > r.reward for _, (c, r) in chosen])
    if views.rephrased:
        found["reasoning_consistency"] = _consistency(items, views)
    found |= _baselines(items) | _pointwise(views.shown) | _critiques(items, views.shown)
    return found


def details(items: Sequence[BenchItem], views: Views) -> dict[str, Any]:
    """What the report shows beside the figures: calibration by bin, outcomes by item, some critiques in full.

    `hits` has a 1 for each pair judged rightly, in the items' order: two rounds can be compared pair by pair.
    """
    rewards = [j.reward for view in views.shown for j in view]
    return {
        "reliability": metrics.reliability(rewards, [True, False] * len(views.shown)),
        "hits": {
            f"{group}_pair_accuracy": "".join(
                str(int(c.reward > r.reward))
                for item, (c, r) in zip(items, views.shown, strict=True)
                if item.group == group
            )
            for group in GROUPS
        },
        "samples": _samples(items, views),
    }


def _samples(items: Sequence[BenchItem], views: Views) -> list[dict[str, Any]]:
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


def _pair_accuracy(items: Sequence[BenchItem], views: Sequence[tuple[Judged, Judged]], group: str) -> Metric:
    inside = [view for item, view in zip(items, views, strict=True) if item.group == group]
    return metrics.share(metrics.prefers_chosen([c.reward for c, _ in inside], [r.reward for _, r in inside]))


def _consistency(items: Sequence[BenchItem], views: Views) -> Metric:
    """Reasoning pairs judged rightly on both sides, from true facts, and the same when rephrased."""
    held = []
    for item, shown, again in zip(items, views.shown, views.rephrased, strict=True):
        if item.group != REASONING_GROUP:
            continue
        judgements = [parse(j.text).judgement for j in (*shown, *again)]
        truthful = all(states_only_facts(j.text, item.facts) for j in shown)
        held.append(judgements == [True, False, True, False] and truthful)
    return metrics.share(held)


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


def _pointwise(views: Sequence[tuple[Judged, Judged]]) -> dict[str, Metric]:
    rewards = [j.reward for view in views for j in view]
    right = [True, False] * len(views)
    return {
        "ece": metrics.ece(rewards, right),
        "pointwise_balanced_accuracy": metrics.balanced_accuracy(rewards, right),
    }


def _critiques(items: Sequence[BenchItem], views: Sequence[tuple[Judged, Judged]]) -> dict[str, Metric]:
    both = [(item, j) for item, view in zip(items, views, strict=True) for j in view]
    return {
        "critique_facts_true": metrics.share([states_only_facts(j.text, item.facts) for item, j in both]),
        "critique_readable": metrics.share([parse(j.text).judgement is not None for _, j in both]),
    }
