"""The stages' output for one part: a table to query, and counts of where the rows went.

For each stage rows in = kept + dropped (by reason) + quarantined (by reason). What a row is depends on the stage:

    generate   a response that was given or requested from the policy; a prompt that is quarantined, or whose image is held
               out in a later round, counts once
    verify     a candidate
    pair       a candidate
    critique   a critique that was requested from the critics
    select     a pair
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from vlrm_ray.pipeline import remedies, training_tables
from vlrm_ray.pipeline.holdout import HELD_OUT
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.preferences.difficulty import MASTERED
from vlrm_ray.store.ledger import ROLLOUT_STAGES
from vlrm_ray.store.rows import Row
from vlrm_ray.types import CheckedClaim, Pair, ScoredCritique

_EMPTY_STAGES = {
    "generate": ("there is no response", "check policy.model, policy.max_tokens and the prompts"),
    "verify": ("no response makes a checkable claim", "ask for descriptions, or check experts.extractor"),
    "pair": ("no two responses to a prompt form a pair", "raise policy.samples or prompts.per_round"),
    "critique": ("no critique has a judgement", "raise critic.max_tokens, or check critic.model and critic.format"),
    "select": ("no pair was selected", "raise critic.k or prompts.per_round"),
}
"""What it means that a stage kept no row, and what to do about it."""
_NOT_CRITIQUED = (HELD_OUT, MASTERED)
"""Reasons of pairs that no critiques are requested for."""
_MOST_REASONS = 5
"""Largest number of reasons that a message lists."""
_CLAIMS = TypeAdapter(tuple[CheckedClaim, ...])


def stage_tables(rows: Sequence[Row]) -> dict[str, tuple[pa.Table, RowCounts]]:
    """Table and row counts of each stage of the graph, for the rows of one part.

    Raises:
        AssertionError: if a stage's counts do not add up.
    """
    builders: dict[str, Callable[[Sequence[Row]], tuple[pa.Table, RowCounts]]] = {
        "generate": _candidates,
        "verify": _verdicts,
        "pair": _pairs,
        "critique": _critiques,
        "select": _selected,
    }
    outputs = {stage: build(rows) for stage, build in builders.items()}
    for stage, (_, row_counts) in outputs.items():
        row_counts.check(stage)
    return outputs


def _candidates(rows: Sequence[Row]) -> tuple[pa.Table, RowCounts]:
    """Rows in: the given and the requested responses. Empty ones, and given ones that cannot be used, are dropped."""
    kept = sum(len(row.candidates) for row in rows)
    quarantined = Counter(row.quarantined for row in rows if row.quarantined)
    unusable: Counter[str] = sum((Counter(row.unusable) for row in rows), Counter())
    empty = sum(row.asked - len(row.candidates) for row in rows) - unusable.total()
    dropped = _nonzero(empty_response=empty) | dict(unusable)
    row_counts = RowCounts(kept + sum(dropped.values()) + quarantined.total(), kept, dropped, dict(quarantined))
    records: list[dict[str, Any]] = [
        {"prompt_id": r.prompt.prompt_id, "image": r.prompt.image, "sha256": r.prompt.sha256, "question": r.prompt.question,
         "candidate_id": c.candidate_id, "condition": c.condition.value, "text": c.text, "source": r.sources.get(c.candidate_id, "")}
        for r in rows for c in r.candidates
    ]  # fmt: skip
    columns = ("prompt_id", "image", "sha256", "question", "candidate_id", "condition", "text")
    return _table(records, columns + ("source",) * any(row.sources for row in rows)), row_counts


def _verdicts(rows: Sequence[Row]) -> tuple[pa.Table, RowCounts]:
    """Rows in: candidates. Those without a claim are dropped."""
    records: list[dict[str, Any]] = [
        {"candidate_id": c.candidate_id, "claims": len(c.claims), "contradicted": sum(x.finding.verdict == "contradicted" for x in c.claims),
         "supported": sum(x.finding.verdict == "supported" for x in c.claims), "claims_json": _CLAIMS.dump_json(c.claims).decode()}
        for r in rows for c in r.candidates
    ]  # fmt: skip
    without_claim = sum(not c["claims"] for c in records)
    row_counts = RowCounts(len(records), len(records) - without_claim, _nonzero(no_claim=without_claim))
    return _table(records, ("candidate_id", "claims", "contradicted", "supported", "claims_json")), row_counts


def _pairs(rows: Sequence[Row]) -> tuple[pa.Table, RowCounts]:
    """Rows in: candidates. Those in no pair are dropped with their reason."""
    candidates = sum(len(r.candidates) for r in rows)
    kept = sum(2 * len(r.pairs) for r in rows)
    row_counts = RowCounts(candidates, kept, dict(Counter(reason for r in rows for reason in r.unused.values())))
    records: list[dict[str, Any]] = [
        {"pair_id": p.pair_id, "prompt_id": r.prompt.prompt_id, "chosen_id": p.chosen.candidate_id, "rejected_id": p.rejected.candidate_id,
         "chosen": p.chosen.text, "rejected": p.rejected.text, "rejected_condition": p.rejected.condition.value}
        for r in rows for p in r.pairs
    ]  # fmt: skip
    return _table(
        records, ("pair_id", "prompt_id", "chosen_id", "rejected_id", "chosen", "rejected", "rejected_condition")
    ), row_counts


def _critiques(rows: Sequence[Row]) -> tuple[pa.Table, RowCounts]:
    """Rows in: the requested critiques. Those without a judgement are dropped; a refused request counts once.

    None are requested for pairs that are held out or mastered.
    """
    records: list[dict[str, Any]] = [
        {"pair_id": p.pair_id, "side": side, "critique": j.text, "yes": j.yes, "no": j.no}
        for r in rows for p in r.pairs for side, critiques in _sides(p) for j in critiques
    ]  # fmt: skip
    unjudged = sum(r["yes"] + r["no"] == 0 for r in records)
    refused = Counter(
        r.rejected[p.pair_id]
        for r in rows
        for p in r.pairs
        for _, critiques in _sides(p)
        if not critiques and r.rejected[p.pair_id] not in _NOT_CRITIQUED
    )
    row_counts = RowCounts(
        len(records) + refused.total(), len(records) - unjudged, _nonzero(no_judgement=unjudged), dict(refused)
    )
    return _table(records, ("pair_id", "side", "critique", "yes", "no")), row_counts


def _selected(rows: Sequence[Row]) -> tuple[pa.Table, RowCounts]:
    """Rows in: pairs. Those with a refused request are quarantined. The table holds what training reads."""
    dropped, quarantined = Counter[str](), Counter[str]()
    for row in rows:
        for pair in row.pairs:
            if reason := row.rejected.get(pair.pair_id):
                judged = all(critiques for _, critiques in _sides(pair))
                (dropped if judged or reason in _NOT_CRITIQUED else quarantined)[reason] += 1
    pairs, kept = sum(len(r.pairs) for r in rows), sum(len(r.selected) for r in rows)
    return training_tables.selected_pairs(rows), RowCounts(pairs, kept, dict(dropped), dict(quarantined))


def counts_text(counts: Mapping[str, int], total: int = 0) -> str:
    """Counts by reason, the most frequent first, such as "image_missing 6 of 6"; a `total` of 0 is left out."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{reason} {count}" + (f" of {total}" if total else "") for reason, count in ordered[:_MOST_REASONS]]
    return ", ".join(texts + [f"{len(ordered) - _MOST_REASONS} other reasons"] * (len(ordered) > _MOST_REASONS))


def why_nothing_is_trained(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why no pair was selected, and what to change: by the first stage that kept no row.

    Args:
        results: row counts of each of `ROLLOUT_STAGES`, as in a stage's result.
    """
    lost = [stage for stage in ROLLOUT_STAGES if not results[stage]["kept"]]
    all_held_out = lost[0] == "critique" and results["select"]["dropped"].keys() == {HELD_OUT}
    stage = "select" if all_held_out else lost[0]
    reasons = Counter[str]({**results[stage]["dropped"], **results[stage]["quarantined"]})
    outcome, remedy = _EMPTY_STAGES[stage]
    if reasons:
        remedy = remedies.for_reason(stage, reasons.most_common(1)[0][0]) or remedy
    return f"{outcome} ({counts_text(reasons) or 'there was none'}), so nothing is trained; {remedy}"


def _sides(pair: Pair) -> Iterable[tuple[str, Sequence[ScoredCritique]]]:
    yield "chosen", pair.chosen_critiques
    yield "rejected", pair.rejected_critiques


def _table(records: list[dict[str, Any]], columns: tuple[str, ...]) -> pa.Table:
    return pa.table({name: [record[name] for record in records] for name in columns})


def _nonzero(**counts: int) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
