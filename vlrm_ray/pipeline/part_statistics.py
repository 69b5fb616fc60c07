"""Statistics of a part beyond its row counts: margins, verdicts and pairs, as plain counts.

Counts are nested dicts and lists of integers, so those of several parts or rounds can be summed by one function.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlrm_ray.monitoring import bins
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.preferences.difficulty import difficulty_of
from vlrm_ray.preferences.selection import candidates_of
from vlrm_ray.store.rows import Row
from vlrm_ray.types import ClaimType, Pair, ScoredCritique, SelectedPair, Verdict

Counts = dict[str, Any]
MARGIN_BINS = 40
"""Number of bins of equal width over the range of margins, -1 to 1."""


def count_rows(rows: Sequence[Row], own: bool = False) -> Counts:
    """Count the rows of a part.

    Args:
        rows: the rows.
        own: whether unaided critiques are learned (`selection.own`).

    Returns:
        `margins`: histograms of the kept and the refused pairs' margins, each with `MARGIN_BINS` bins.
        `claims`: number of claims by type and verdict.
        `pairs`: pairs made and kept, by the image condition of the rejected candidate.
        `difficulty`: pairs made and kept, by their difficulty for the newest version; {} if it was not asked.
        `critiques`: critiques that are learned, by who wrote them ("" if only one model did): how many, how many were
            checked, and how many state something false.
    """
    kept, refused = [0] * MARGIN_BINS, [0] * MARGIN_BINS
    claims = {kind.value: {verdict.value: 0 for verdict in Verdict} for kind in ClaimType}
    pairs: dict[str, dict[str, int]] = {}
    difficulty: dict[str, dict[str, int]] = {}
    critiques: dict[str, dict[str, int]] = {}
    for row in rows:
        selected_pairs = {selected.pair.pair_id: selected for selected in row.selected}
        for pair in row.pairs:
            selected = selected_pairs.get(pair.pair_id)
            if (margin := margin_of(pair, selected, own)) is not None:
                (kept if selected else refused)[_bin(margin)] += 1
            _add(pairs, pair.rejected.condition.value, made=1, kept=int(selected is not None))
            if pair.unaided:
                _add(difficulty, difficulty_of(pair.unaided).value, made=1, kept=int(selected is not None))
            for critique in filter(None, (selected.chosen, selected.rejected) if selected else ()):
                false = critique.false_statements
                known = {"checked": int(false is not None), "false": int(bool(false)), "asked": int(critique.asked)}
                _add(critiques, critique.writer, kept=1, **known)
        for candidate in row.candidates:
            for checked in candidate.claims:
                claims[checked.claim.type.value][checked.finding.verdict.value] += 1
    return {
        "margins": {"kept": kept, "refused": refused}, "claims": claims, "pairs": pairs, "difficulty": difficulty,
        "critiques": critiques,
    }  # fmt: skip


def _add(counts: dict[str, dict[str, int]], name: str, **numbers: int) -> None:
    entry = counts.setdefault(name, dict.fromkeys(numbers, 0))
    for key, number in numbers.items():
        entry[key] += number


def figures(rows: Sequence[Row], counts: Mapping[str, RowCounts], own: bool = False) -> Counts:
    """What Ray's metrics show of a part.

    Args:
        rows: the rows of the part.
        counts: their counts by stage.
        own: whether unaided critiques are learned (`selection.own`).

    Returns:
        `candidates` by image condition, `verdicts` by claim type and verdict, `pairs` by outcome and reason,
        `quarantined` rows by stage and reason; and the histograms `margin` by outcome, `reward` and `label_mass` by side,
        as counts by bucket.
    """
    verdicts: dict[str, Counter[str]] = {}
    margins: dict[str, list[float]] = {"kept": [], "refused": []}
    critiques = {"chosen": list[ScoredCritique](), "rejected": list[ScoredCritique]()}
    for row in rows:
        selected_pairs = {selected.pair.pair_id: selected for selected in row.selected}
        for pair in row.pairs:
            selected = selected_pairs.get(pair.pair_id)
            if (margin := margin_of(pair, selected, own)) is not None:
                margins["kept" if selected else "refused"].append(margin)
            critiques["chosen"] += pair.chosen_critiques
            critiques["rejected"] += pair.rejected_critiques
        for checked in (checked for candidate in row.candidates for checked in candidate.claims):
            verdicts.setdefault(checked.claim.type.value, Counter())[checked.finding.verdict.value] += 1
    judged = {side: [c.reward for c in found if c.label_mass > 0] for side, found in critiques.items()}
    select = counts["select"]
    return {
        "candidates": dict(Counter(candidate.condition.value for row in rows for candidate in row.candidates)),
        "verdicts": {kind: dict(found) for kind, found in verdicts.items()},
        "pairs": {"kept": {"": select.kept}, "dropped": select.dropped, "quarantined": select.quarantined},
        "quarantined": {stage: count.quarantined for stage, count in counts.items() if count.quarantined},
        "margin": {outcome: bins("vlrm_margin", values) for outcome, values in margins.items()},
        "reward": {side: bins("vlrm_reward", values) for side, values in judged.items()},
        "label_mass": {side: bins("vlrm_label_mass", [c.label_mass for c in cs]) for side, cs in critiques.items()},
    }


def margin_of(pair: Pair, selected: SelectedPair | None, own: bool = False) -> float | None:
    """Margin of a pair.

    Args:
        pair: the pair.
        selected: the same pair with its selected critiques; None if it was refused.
        own: whether unaided critiques are learned (`selection.own`).

    Returns:
        For a selected pair its margin, None if only one side is learned. For a refused pair the largest margin that its
        critiques reach: the highest reward of the chosen side minus the lowest of the rejected side; None if a side has no
        judged critique.
    """
    if selected is not None:
        return selected.margin
    plus, minus = (
        [c.reward for c in candidates_of(pair, side, own) if c.label_mass > 0 and math.isfinite(c.reward)]
        for side in (0, 1)
    )
    return max(plus) - min(minus) if plus and minus else None


def summed(markers: Sequence[Mapping[str, Any]]) -> Counts:
    """The counts of `count_rows`, summed over the parts that some markers are of; {} without any."""
    return sum_counts([marker["statistics"] for marker in markers]) if markers else {}


def sum_counts(parts: Sequence[Any]) -> Any:
    """Sum the counts of one or more parts; the result has the same structure as one part's counts."""
    if isinstance(parts[0], dict):
        keys = dict.fromkeys(key for part in parts for key in part)
        return {key: sum_counts([part[key] for part in parts if key in part]) for key in keys}
    if isinstance(parts[0], list):
        return [sum(counts) for counts in zip(*parts, strict=True)]
    return sum(parts)


def _bin(margin: float) -> int:
    return min(MARGIN_BINS - 1, max(0, int((margin + 1) / 2 * MARGIN_BINS)))
