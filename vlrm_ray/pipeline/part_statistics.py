"""Statistics of a part beyond its row counts: margins, verdicts and pairs, as plain counts.

Counts are nested dicts and lists of integers, so those of several parts or rounds can be summed by one function.
"""

import math
from collections.abc import Sequence
from typing import Any

from vlrm_ray.store.rows import Row
from vlrm_ray.types import ClaimType, Pair, SelectedPair, Verdict

Counts = dict[str, Any]
MARGIN_BINS = 40
"""Number of bins of equal width over the range of margins, -1 to 1."""


def count_rows(rows: Sequence[Row]) -> Counts:
    """Count the rows of a part.

    Returns:
        `margins`: histograms of the kept and the refused pairs' margins, each with `MARGIN_BINS` bins.
        `claims`: number of claims by type and verdict.
        `pairs`: pairs made and kept, by the image condition of the rejected candidate.
    """
    kept, refused = [0] * MARGIN_BINS, [0] * MARGIN_BINS
    claims = {kind.value: {verdict.value: 0 for verdict in Verdict} for kind in ClaimType}
    pairs: dict[str, dict[str, int]] = {}
    for row in rows:
        selected_pairs = {selected.pair_id: selected for selected in row.selected}
        for pair in row.pairs:
            margin = margin_of(pair, selected_pairs.get(pair.pair_id))
            if margin is not None:
                (kept if pair.pair_id in selected_pairs else refused)[_bin(margin)] += 1
            by_condition = pairs.setdefault(pair.rejected.condition.value, {"made": 0, "kept": 0})
            by_condition["made"] += 1
            by_condition["kept"] += pair.pair_id in selected_pairs
        for candidate in row.candidates:
            for checked in candidate.claims:
                claims[checked.claim.type.value][checked.finding.verdict.value] += 1
    return {"margins": {"kept": kept, "refused": refused}, "claims": claims, "pairs": pairs}


def margin_of(pair: Pair, selected: SelectedPair | None) -> float | None:
    """Margin of a pair.

    Returns:
        For a selected pair its margin. For a refused pair the largest margin that its critiques reach: the highest
        reward of the chosen side minus the lowest of the rejected side. None if a side has no judged critique.
    """
    if selected is not None:
        return selected.margin
    plus, minus = (
        [c.reward for c in critiques if c.label_mass > 0 and math.isfinite(c.reward)]
        for critiques in (pair.chosen_critiques, pair.rejected_critiques)
    )
    return max(plus) - min(minus) if plus and minus else None


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
