"""What the rows of a part add up to, beyond the tallies: margins, verdicts and pairs, as plain counts.

Counts are nested dicts and lists of integers, so that those of a part, a round or a run are summed alike.
"""

import math
from collections.abc import Sequence
from typing import Any

from vlrm_ray.store.rows import Row
from vlrm_ray.types import ClaimType, Pair, SelectedPair, Verdict

Counts = dict[str, Any]
MARGIN_BINS = 40
"""Bins of equal width over the margins' range, -1 to 1."""


def count_rows(rows: Sequence[Row]) -> Counts:
    """`margins` of kept and of refused pairs by bin, `claims` by type and verdict, `pairs` by the rejected side's making."""
    kept, refused = [0] * MARGIN_BINS, [0] * MARGIN_BINS
    claims = {kind.value: {verdict.value: 0 for verdict in Verdict} for kind in ClaimType}
    pairs: dict[str, dict[str, int]] = {}
    for row in rows:
        chosen = {selected.pair_id: selected for selected in row.selected}
        for pair in row.pairs:
            margin = margin_of(pair, chosen.get(pair.pair_id))
            if margin is not None:
                (kept if pair.pair_id in chosen else refused)[_bin(margin)] += 1
            made = pairs.setdefault(pair.rejected.condition.value, {"made": 0, "kept": 0})
            made["made"] += 1
            made["kept"] += pair.pair_id in chosen
        for candidate in row.candidates:
            for checked in candidate.claims:
                claims[checked.claim.type.value][checked.finding.verdict.value] += 1
    return {"margins": {"kept": kept, "refused": refused}, "claims": claims, "pairs": pairs}


def margin_of(pair: Pair, selected: SelectedPair | None) -> float | None:
    """The margin a pair was kept with; for a refused one the largest its critiques reach, None without any."""
    if selected is not None:
        return selected.margin
    plus, minus = (
        [c.reward for c in critiques if c.label_mass > 0 and math.isfinite(c.reward)]
        for critiques in (pair.chosen_critiques, pair.rejected_critiques)
    )
    return max(plus) - min(minus) if plus and minus else None


def sum_counts(parts: Sequence[Any]) -> Any:
    """The sum of several parts' counts, of the same shape as one; there must be one."""
    if isinstance(parts[0], dict):
        keys = dict.fromkeys(key for part in parts for key in part)
        return {key: sum_counts([part[key] for part in parts if key in part]) for key in keys}
    if isinstance(parts[0], list):
        return [sum(counts) for counts in zip(*parts, strict=True)]
    return sum(parts)


def _bin(margin: float) -> int:
    return min(MARGIN_BINS - 1, max(0, int((margin + 1) / 2 * MARGIN_BINS)))
